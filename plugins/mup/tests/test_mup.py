"""Starts and learning rates by Table 3 of the paper, role by role; ``normal`` at the base; refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lmgraft import compose
from lmgraft.cli import _running
from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape, ScalingInitializer
from lmgraft.training import weights
from lmgraft_mup.mup import Mup
from lmgraft_mup.plugin import MupConfig

LAYERS = 8
HIDDEN = [Role.QUERY, Role.KEY, Role.VALUE, Role.MLP_IN, Role.MLP_GATE]
RESIDUAL = [Role.ATTENTION_OUT, Role.MLP_OUT]
TABLES = [Role.EMBEDDING, Role.POSITION]


def shape(hidden: int, head_dim: int | None = 64, *, tied: bool = False) -> ModelShape:
    return ModelShape(layers=LAYERS, hidden=hidden, head_dim=head_dim, tied=tied)


def std(role: Role, model: ModelShape, *size: int, **settings: Any) -> float:
    tensor = torch.full(size or (400, 500), float("nan"))
    Mup(MupConfig(**settings)).fill(tensor, TensorRole(role, 3), model, torch.Generator().manual_seed(0))
    return tensor.std().item()


def rate(role: Role, model: ModelShape, *size: int, **settings: Any) -> float:
    return Mup(MupConfig(**settings)).lr_scale(TensorRole(role, 3), size or (400, 500), model)


@pytest.mark.parametrize("role", HIDDEN)
def test_width_to_width(role: Role) -> None:
    assert std(role, shape(1024)) == pytest.approx(0.02 / 2, rel=0.01)  # 1024 is 4 times the base
    assert rate(role, shape(1024)) == 1 / 4
    assert std(role, shape(64), std=0.1) == pytest.approx(0.1 * 2, rel=0.01)
    assert rate(role, shape(64)) == 4


@pytest.mark.parametrize("role", RESIDUAL)
def test_residual_outputs_shrink_with_depth_beside(role: Role) -> None:
    assert std(role, shape(1024)) == pytest.approx(0.02 / 2 / 4, rel=0.01)  # sqrt(2 * 8) = 4
    assert std(role, shape(1024), scale_residual=False) == pytest.approx(0.02 / 2, rel=0.01)
    assert rate(role, shape(1024)) == 1 / 4


@pytest.mark.parametrize("role", TABLES)
def test_a_constant_to_width(role: Role) -> None:
    assert std(role, shape(1024)) == pytest.approx(0.02, rel=0.01)
    assert rate(role, shape(1024)) == 1


def test_width_to_a_constant() -> None:
    assert std(Role.HEAD, shape(1024)) == pytest.approx(0.02 / 4, rel=0.01)
    assert rate(Role.HEAD, shape(1024)) == 1 / 4


def test_norms_and_biases() -> None:
    for role, value in ((Role.NORM, 1.0), (Role.BIAS, 0.0)):
        tensor = torch.full((7,), float("nan"))
        Mup(MupConfig()).fill(tensor, TensorRole(role, 3), shape(1024), torch.Generator())
        assert torch.equal(tensor, torch.full((7,), value))
        assert rate(role, shape(1024), 7) == 1


def test_wider_heads_go_into_the_queries() -> None:
    """softmax(q k / sqrt(d)) with q smaller by sqrt(base / d) is softmax(q k sqrt(base) / d)."""
    wide = shape(1024, 256)
    assert std(Role.QUERY, wide, base_head_dim=64) == pytest.approx(0.02 / 2 / 2, rel=0.01)
    assert rate(Role.QUERY, wide, base_head_dim=64) == 1 / 4 / 2
    assert rate(Role.KEY, wide, base_head_dim=64) == 1 / 4
    assert rate(Role.QUERY, wide) == 1 / 4
    assert rate(Role.QUERY, shape(1024, None), base_head_dim=64) == 1 / 4


def test_other_matrices_go_by_their_sides() -> None:
    router, recurrence, convolution = (8, 1024), (4096, 1024), (1024, 1, 4)
    assert std(Role.OTHER, shape(1024), *router) == pytest.approx(0.02 / 4, rel=0.05)
    assert rate(Role.OTHER, shape(1024), *router) == 1 / 4
    assert std(Role.OTHER, shape(1024), *recurrence) == pytest.approx(0.02 / 2, rel=0.01)
    assert rate(Role.OTHER, shape(1024), *recurrence) == 1 / 4
    assert std(Role.OTHER, shape(1024), *convolution) == pytest.approx(0.02, rel=0.05)
    assert rate(Role.OTHER, shape(1024), *convolution) == 1
    assert rate(Role.OTHER, shape(1024), 1024) == 1
    assert rate(Role.ADAPTER, shape(1024), 8, 1024) == 1


def test_zero_starts() -> None:
    assert std(Role.HEAD, shape(1024), zero_head=True) == 0
    assert std(Role.QUERY, shape(1024), zero_query=True) == 0
    assert std(Role.KEY, shape(1024), zero_head=True, zero_query=True) > 0
    assert rate(Role.HEAD, shape(1024), zero_head=True) == 1 / 4


def drawn(name: str, hidden: int, **settings: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A model's weights, and what their learning rates are multiplied with."""
    parts = {}
    for seam, part, given in (
        ("architecture", "llama", {"layers": 2, "hidden": hidden, "heads": 2, "kv_heads": 1, "mlp": 48}),
        ("initializer", name, settings),
    ):
        component = registry().get(seam, part).component
        parts[seam] = build(component, component.config(part=part, **given))
    architecture, initializer = parts["architecture"], parts["initializer"]
    module = weights.materialise(architecture, 50, "cpu")
    weights.initialise(module, architecture, initializer, 3)
    named = dict(module.named_parameters())
    roles = weights.tensor_roles(architecture, initializer, {key: value.shape for key, value in named.items()})
    return {key: value.detach() for key, value in named.items()}, {key: role.lr_scale for key, role in roles.items()}


def test_at_the_base_it_is_the_standard_start_bit_for_bit() -> None:
    standard, ones = drawn("normal", 32, std=0.05)
    ours, scales = drawn("mup", 32, std=0.05, base_hidden=32, base_head_dim=16)
    assert ours.keys() == standard.keys()
    assert all(torch.equal(ours[name], standard[name]) for name in standard)
    assert scales == ones == dict.fromkeys(standard, 1.0)
    away, others = drawn("mup", 32, std=0.05, base_hidden=16, base_head_dim=16)
    assert others["lm_head.weight"] == 0.5
    assert not torch.equal(away["lm_head.weight"], standard["lm_head.weight"])


def test_it_has_rules_for_learning_rates() -> None:
    assert isinstance(Mup(MupConfig()), ScalingInitializer)


def test_a_tied_head_is_refused_when_the_recipe_is_composed() -> None:
    lines = ["initializer@pretrain.initializer=mup", "architecture@pretrain.architecture=gpt2"]
    with pytest.raises(UserError) as caught:
        _running.checked(compose.resolve("quickstart"), lines)
    (problem,) = caught.value.problems
    assert problem.fact == "pretrain.initializer=mup does not fit pretrain.architecture=gpt2"
    assert "its head is its embedding" in problem.cause
    assert problem.remedy == "pretrain.architecture.tied=false, or another initializer, such as normal"
    assert _running.checked(compose.resolve("quickstart"), [*lines, "pretrain.architecture.tied=false"])


def test_a_tied_head_is_refused_by_the_model_itself() -> None:
    """Where settings do not tell: an architecture of a model folder."""
    part, model = Mup(MupConfig()), shape(64, tied=True)
    role = TensorRole(Role.EMBEDDING)
    for ask in (
        lambda: part.fill(torch.zeros(4, 4), role, model, torch.Generator()),
        lambda: part.lr_scale(role, (4, 4), model),
    ):
        with pytest.raises(UserError, match="does not fit this model"):
            ask()


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"base_hidden": 0}, "base_hidden"), ({"base_head_dim": 0}, "base_head_dim"), ({"std": 0.0}, "std")],
)
def test_values_out_of_range_are_named(settings: dict[str, Any], word: str) -> None:
    assert list(MupConfig().check()) == []
    (problem,) = MupConfig(**settings).check()
    assert problem.startswith(word)


def test_the_deviation_of_the_paper() -> None:
    """With std 1 / sqrt(base_hidden) matrices have variance 1 / fan_in, and the head base_hidden / fan_in^2."""
    found = std(Role.KEY, shape(1024), std=256**-0.5)
    assert found == pytest.approx(math.sqrt(1 / 1024), rel=0.01)
    head = std(Role.HEAD, shape(1024), std=256**-0.5)
    assert head == pytest.approx(math.sqrt(256) / 1024, rel=0.01)
