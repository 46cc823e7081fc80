"""What is frozen costs nothing and keeps its bits, in one process and over two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Role
from lmgraft_data_parallel.engine import SingleEngine

sys.path.insert(0, str(Path(__file__).parent))

from replica_cases import Case

TABLES = frozenset({Role.EMBEDDING, Role.HEAD})
ROWS = 200


def engine(**changes: Any) -> SingleEngine:
    return SingleEngine(Case("llama").plan(**changes))


def learn(one: SingleEngine, steps: int = 2) -> list[float]:
    norms = []
    for step in range(steps):
        norms.append(one.forward_backward(Case("llama").share(step, 0, 1)).grad_norm)
        one.apply(1e-2)
    return norms


def test_the_norm_is_that_of_what_is_trained() -> None:
    whole, tables, rows = engine(), engine(trainable=TABLES), engine(trainable=TABLES, frozen_rows=ROWS)
    batches = Case("llama").share(0, 0, 1)
    norms = [one.forward_backward(batches).grad_norm for one in (whole, tables, rows)]
    gradients = whole.gradients()
    own = [gradients[name] for name in ("model.embed_tokens.weight", "lm_head.weight")]
    assert norms[1] == pytest.approx(float(torch.cat(own).norm()), rel=1e-6)
    assert norms[2] == pytest.approx(float(torch.cat([one[ROWS:] for one in own]).norm()), rel=1e-6)
    assert norms[0] > norms[1] > norms[2] > 0
    for name, gradient in rows.gradients().items():
        torch.testing.assert_close(gradient, gradients[name][ROWS:])


def test_no_memory_goes_into_what_is_frozen() -> None:
    one = engine(trainable=TABLES, frozen_rows=ROWS)
    learn(one)
    assert one._optimizer is not None
    held = [value for state in one._optimizer.state.values() for value in state.values() if value.dim()]
    assert [tuple(value.shape) for value in held] == [(55, 32)] * 4
    one.forward_backward(Case("llama").share(0, 0, 1))
    reached = {name for name, parameter in one._module.named_parameters() if parameter.grad is not None}
    assert reached == {"model.embed_tokens.weight", "lm_head.weight"}


def test_where_nothing_that_is_trained_has_a_part_in_a_loss_there_is_no_step() -> None:
    """Weights that no pass reads are all that is trained."""
    case = Case("routed", "weighed")
    one = SingleEngine(case.plan(trainable=frozenset({Role.OTHER})))
    before = {name: parameter.detach().clone() for name, parameter in one._module.named_parameters()}
    assert [name for name, parameter in one._module.named_parameters() if parameter.requires_grad] == ["unread"]
    assert one.forward_backward(case.share(0, 0, 1)).grad_norm == 0.0
    one.apply(1e-2)
    assert all(torch.equal(before[name], parameter) for name, parameter in one._module.named_parameters())


def test_a_compiled_model_is_frozen_too() -> None:
    one, other = engine(trainable=TABLES, frozen_rows=ROWS), engine(trainable=TABLES, frozen_rows=ROWS, compile=True)
    other._forward = torch.compile(other._module, backend="eager")  # type: ignore[assignment]
    assert learn(one) == pytest.approx(learn(other), rel=1e-5)
    for (name, left), right in zip(one._module.named_parameters(), other._module.parameters(), strict=True):
        torch.testing.assert_close(left, right, msg=name)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="frozen_rows is 255 of 255"):
        engine(trainable=TABLES, frozen_rows=255)
    with pytest.raises(UserError, match="trainable is position"):
        engine(trainable=frozenset({Role.POSITION}))


def test_what_is_learnt_alone_is_the_products_that_are_left() -> None:
    """Torch multiplies for the gradients of the weights that are trained, and of no others."""
    from torch.profiler import ProfilerActivity, profile

    def products(**changes: Any) -> int:
        component = registry().get("architecture", "llama").component
        settings = {"layers": 4, "hidden": 32, "heads": 4, "kv_heads": 4, "mlp": 48, "context": 32}
        one = engine(architecture=build(component, component.config(**settings)), **changes)
        batches = Case("llama").share(0, 0, 1)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            one.forward_backward(batches)
        named = {"aten::mm", "mkldnn::_linear_pointwise", "aten::addmm"}
        return sum(event.count for event in seen.key_averages() if event.key in named)

    # Seven matrices a layer: each is one product less.
    assert products() - products(trainable=TABLES) == 4 * 7
