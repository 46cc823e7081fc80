"""What of a model is trained: which parameters ask for gradients, which rows the optimizer is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import freezing, optimizer_state
from torch import nn

VOCABULARY = 10
ROLES = {"embed": Role.EMBEDDING, "inner": Role.MLP_IN, "norm": Role.NORM, "head": Role.HEAD}
LAYERS = {"inner": 0, "norm": 1}


class Model(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 4)
        self.inner = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm(4, bias=False)
        self.head = nn.Linear(4, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.inner(self.embed(tokens)))).log_softmax(-1)
        return out


class Architecture:
    def role(self, name: str) -> TensorRole:
        return TensorRole(ROLES[name.split(".")[0]], LAYERS.get(name.split(".")[0]))


def plan(*roles: Role, rows: int = 0, layers: Sequence[int] = (), optimizer: Any = "some") -> EnginePlan:
    architecture: Any = Architecture()
    settings = {"vocab_size": VOCABULARY, "device": "cpu", "precision": "float32", "seed": 0}
    more = {"trainable": frozenset(roles), "frozen_rows": rows, "optimizer": optimizer}
    more["trainable_layers"] = frozenset(layers)
    return EnginePlan(architecture=architecture, **settings, **more)  # type: ignore[arg-type]


def model(tied: bool = False) -> Model:
    torch.manual_seed(0)
    return Model(tied)


def learnt(module: Model, parts: Sequence[freezing.Trained], tokens: Sequence[int] = (1, 2, 8)) -> None:
    ids = torch.tensor(tokens)
    (-module(ids)[torch.arange(len(ids)), ids].sum()).backward()  # type: ignore[no-untyped-call]
    for part in parts:
        part.take()


def test_the_optimizer_is_given_the_initializer_s_learning_rates() -> None:
    class Rules:
        def lr_scale(self, role: TensorRole, size: Sequence[int], shape: ModelShape) -> float:
            return size[0] / 40

    made: Any = plan(Role.EMBEDDING, Role.MLP_IN, rows=6)
    made.architecture.spec = lambda: None
    made.initializer = Rules()
    parts = {part.name: part for part in freezing.trained(model(), made)}
    assert {name: part.role.lr_scale for name, part in parts.items()} == {"embed.weight": 0.25, "inner.weight": 0.1}
    assert parts["embed.weight"].rows.shape[0] == 4, "the whole table has 10 rows, and the rule is of the whole"


def test_without_a_word_all_is_trained_as_it_lies() -> None:
    module = model()
    parts = freezing.trained(module, plan())
    assert [part.name for part in parts] == ["embed.weight", "inner.weight", "norm.weight", "head.weight"]
    assert all(part.rows is part.whole is module.get_parameter(part.name) for part in parts)
    assert [part.role.role for part in parts] == list(ROLES.values())


def test_other_roles_ask_for_no_gradient() -> None:
    module = model()
    parts = freezing.trained(module, plan(Role.EMBEDDING, Role.NORM))
    assert [part.name for part in parts] == ["embed.weight", "norm.weight"]
    learnt(module, parts)
    assert module.inner.weight.grad is module.head.weight.grad is None
    assert all(part.rows.grad is not None for part in parts)


@pytest.mark.parametrize(
    ("roles", "layers", "found"),
    [
        ((), (0,), ["inner.weight"]),
        ((), (1,), ["norm.weight"]),
        ((), (0, 1), ["inner.weight", "norm.weight"]),
        ((Role.NORM,), (0, 1), ["norm.weight"]),
        ((Role.HEAD, Role.MLP_IN), (0,), ["inner.weight", "head.weight"]),
        ((Role.HEAD, Role.MLP_IN), (1,), ["head.weight"]),
    ],
)
def test_other_layers_ask_for_no_gradient(roles: tuple[Role, ...], layers: tuple[int, ...], found: list[str]) -> None:
    """Those outside of all are trained where their role is named."""
    module = model()
    parts = freezing.trained(module, plan(*roles, layers=layers))
    assert [part.name for part in parts] == found
    learnt(module, parts)
    assert [name for name, one in module.named_parameters() if one.grad is not None] == found


def test_an_adapter_outside_of_all_layers_is_no_layer_s() -> None:
    """The stage names its role, and nobody asked for what lies there."""
    outside, inside, other = (TensorRole(Role.ADAPTER, layer) for layer in (None, 2, 3))
    named = frozenset({Role.ADAPTER})
    assert [freezing.is_trained(role, named, {2}) for role in (outside, inside, other)] == [False, True, False]
    assert all(freezing.is_trained(role, named, ()) for role in (outside, inside, other))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
@pytest.mark.parametrize("tied", [False, True])
def test_frozen_rows_keep_every_bit_under_any_optimizer(kind: Any, tied: bool) -> None:
    """Also one that divides by the root of a zero second moment, without an epsilon that hides it."""
    module = model(tied)
    module.embed.weight.data[0, 0] = -0.0
    before = {name: one.detach().clone() for name, one in module.named_parameters()}
    parts = freezing.trained(module, plan(Role.EMBEDDING, Role.HEAD, rows=6))
    more = {"momentum": 0.9} if kind is torch.optim.SGD else {"eps": 0.0} if kind is not torch.optim.Adagrad else {}
    optimizer = kind([part.rows for part in parts], lr=0.1, weight_decay=0.5, **more)
    for _ in range(3):
        learnt(module, parts, (0, 5, 6, 7, 8, 9))
        optimizer.step()
        for part in parts:
            part.clear()
            assert part.whole.grad is part.rows.grad is None
    for name, one in module.named_parameters():
        first = len(one) if name in ("inner.weight", "norm.weight") else 6
        assert torch.equal(one[:first].view(torch.int32), before[name][:first].view(torch.int32)), name
        assert first == len(one) or bool((one[first:] != before[name][first:]).any(1).all()), name


def test_rows_share_memory_and_gradient_with_the_whole() -> None:
    module = model()
    embed, head = freezing.trained(module, plan(Role.EMBEDDING, Role.HEAD, rows=6))
    assert embed.rows.shape == (4, 4)
    assert embed.rows.data_ptr() == module.embed.weight[6:].data_ptr()
    learnt(module, [embed, head])
    assert module.embed.weight.grad is not None
    assert embed.rows.grad is not None
    embed.rows.grad.fill_(2.0)
    assert bool((module.embed.weight.grad[6:] == 2.0).all())
    # What is filled later, from a folder or a checkpoint, is what is stepped.
    with torch.no_grad():
        module.head.weight.copy_(torch.full((VOCABULARY, 4), 7.0))
    assert bool((head.rows == 7.0).all())


def test_a_parameter_that_nothing_reached_has_no_gradient() -> None:
    embed, *_ = freezing.trained(model(), plan(rows=6))
    embed.take()
    assert embed.rows.grad is None


def test_the_state_is_of_what_is_trained_and_goes_on(tmp_path: Any) -> None:
    def begun() -> tuple[Model, list[freezing.Trained], torch.optim.Optimizer]:
        module = model()
        parts = freezing.trained(module, plan(Role.EMBEDDING, rows=6))
        return module, parts, torch.optim.AdamW([part.rows for part in parts])

    module, parts, optimizer = begun()
    learnt(module, parts)
    optimizer.step()
    names = {part.rows: part.name for part in parts}
    optimizer_state.save(optimizer, names, tmp_path / "state")
    again, same, other = begun()
    again.load_state_dict(module.state_dict())
    optimizer_state.load(other, {part.rows: part.name for part in same}, tmp_path / "state")
    assert {len(value) for value in other.state[same[0].rows].values() if value.dim()} == {4}
    for one, held, steps in ((module, parts, optimizer), (again, same, other)):
        for part in held:
            part.clear()
        learnt(one, held, (7, 8))
        steps.step()
    assert torch.equal(module.embed.weight, again.embed.weight)


def test_what_an_architecture_froze_itself_stays_frozen() -> None:
    module = model()
    module.inner.weight.requires_grad_(False)
    assert "inner.weight" not in [part.name for part in freezing.trained(module, plan())]


@pytest.mark.parametrize(
    ("roles", "rows", "words"),
    [
        ((Role.POSITION,), 0, ["trainable is position", "embedding, head, mlp_in, norm"]),
        ((Role.EMBEDDING, Role.HEAD), VOCABULARY, ["frozen_rows is 10 of 10", "freeze fewer rows"]),
    ],
)
def test_nothing_to_train_is_refused(roles: tuple[Role, ...], rows: int, words: list[str]) -> None:
    with pytest.raises(UserError, match="nothing is left to train") as caught:
        freezing.trained(model(), plan(*roles, rows=rows))
    assert [word for word in words if word not in str(caught.value)] == []
    # An engine that only scores may be asked for anything.
    assert freezing.trained(model(), plan(*roles, rows=rows, optimizer=None)) == []


@pytest.mark.parametrize(("roles", "layers"), [((), (2, 5)), ((Role.NORM,), (0,))])
def test_layers_that_leave_nothing_to_train_are_refused(roles: tuple[Role, ...], layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="nothing is left to train") as caught:
        freezing.trained(model(), plan(*roles, layers=layers))
    assert f"trainable_layers is {', '.join(map(str, layers))}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    assert freezing.trained(model(), plan(*roles, layers=layers, optimizer=None)) == []


def test_a_vocabulary_that_is_frozen_whole_leaves_the_layers() -> None:
    assert [part.name for part in freezing.trained(model(), plan(rows=VOCABULARY))] == ["inner.weight", "norm.weight"]
