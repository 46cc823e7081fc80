"""Each role's deviation by the formulas, whatever the order of the tensors."""

from __future__ import annotations

import math

import pytest
import torch
from lmgraft.component import ComponentConfig
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import Initializer, ModelShape
from lmgraft.training import weights
from lmgraft_small_init.plugin import Others, SmallInitConfig, WangConfig
from lmgraft_small_init.small_init import SmallInit, Wang

SHAPE = ModelShape(layers=8, hidden=64)
SMALL, WANG = math.sqrt(2 / 320), 2 / (8 * 8)
MATRICES = [role for role in Role if role not in (Role.NORM, Role.BIAS)]
RESIDUAL = (Role.ATTENTION_OUT, Role.MLP_OUT)


def filled(part: Initializer, role: Role, *size: int) -> torch.Tensor:
    tensor = torch.full(size or (400, 500), float("nan"))
    part.fill(tensor, TensorRole(role, 3), SHAPE, torch.Generator().manual_seed(0))
    return tensor


@pytest.mark.parametrize("role", MATRICES)
def test_every_role_has_its_formula(role: Role) -> None:
    found = {
        "small_init": filled(SmallInit(SmallInitConfig()), role),
        "wang": filled(Wang(WangConfig()), role),
        "throughout": filled(Wang(WangConfig(others=Others.wang)), role),
    }
    wanted = {"small_init": SMALL, "wang": WANG if role in RESIDUAL else SMALL, "throughout": WANG}
    assert {name: tensor.std().item() for name, tensor in found.items()} == {
        name: pytest.approx(std, rel=0.01) for name, std in wanted.items()
    }
    assert all(abs(tensor.mean().item()) < 1e-3 for tensor in found.values())


@pytest.mark.parametrize("part", [SmallInit(SmallInitConfig()), Wang(WangConfig())])
def test_norms_are_one_and_biases_zero(part: Initializer) -> None:
    assert torch.equal(filled(part, Role.NORM, 7), torch.ones(7))
    assert torch.equal(filled(part, Role.BIAS, 7), torch.zeros(7))


def test_the_depth_of_a_matrix_decides_nothing_and_the_model_s_does() -> None:
    part = Wang(WangConfig())
    deep = torch.empty(400, 500)
    part.fill(deep, TensorRole(Role.MLP_OUT, 0), ModelShape(layers=32, hidden=64), torch.Generator().manual_seed(0))
    assert torch.allclose(4 * deep, filled(part, Role.MLP_OUT), rtol=1e-6)


@pytest.mark.parametrize("name", ["small_init", "wang"])
def test_a_model_starts_alike_whatever_the_order_of_its_tensors(name: str) -> None:
    """A layout fills the tensors that it holds, in an order of its own, from (seed, name)."""
    component = registry().get("initializer", name).component
    config: ComponentConfig = component.config(part=name)
    llama = registry().get("architecture", "llama").component
    architecture = build(llama, llama.config(part="llama", layers=2, hidden=32, heads=2, kv_heads=1, mlp=48))
    module = weights.materialise(architecture, 50, "cpu")
    weights.initialise(module, architecture, build(component, config), 5)
    shape, other = weights.model_shape(module, architecture), build(component, config)
    for tensor_name, parameter in reversed(list(module.named_parameters())):
        alone = torch.empty(parameter.shape)
        generator = torch.Generator().manual_seed(weights.tensor_seed(5, tensor_name))
        other.fill(alone, architecture.role(tensor_name), shape, generator)
        assert torch.equal(alone, parameter), tensor_name
