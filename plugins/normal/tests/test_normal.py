"""The deviations are those of the formula, and come from the generator alone."""

from __future__ import annotations

import pytest
import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft_normal.normal import Normal
from lmgraft_normal.plugin import NormalConfig

SHAPE = ModelShape(layers=8, hidden=64)


def filled(role: Role, *, seed: int = 0, config: NormalConfig | None = None) -> torch.Tensor:
    tensor = torch.full((400, 500), float("nan"))
    generator = torch.Generator().manual_seed(seed)
    Normal(config or NormalConfig()).fill(tensor, TensorRole(role, 3), SHAPE, generator)
    return tensor


@pytest.mark.parametrize("role", [Role.EMBEDDING, Role.HEAD, Role.QUERY, Role.MLP_IN, Role.OTHER])
def test_matrices_have_the_configured_deviation(role: Role) -> None:
    tensor = filled(role)
    assert tensor.std().item() == pytest.approx(0.02, rel=0.01)
    assert abs(tensor.mean().item()) < 3e-4


@pytest.mark.parametrize("role", [Role.ATTENTION_OUT, Role.MLP_OUT])
def test_residual_outputs_shrink_with_depth(role: Role) -> None:
    assert filled(role).std().item() == pytest.approx(0.02 / 4, rel=0.01)  # sqrt(2 * 8) = 4
    plain = NormalConfig(scale_residual=False, std=0.1)
    assert filled(role, config=plain).std().item() == pytest.approx(0.1, rel=0.01)


def test_norms_are_one_and_biases_zero() -> None:
    assert torch.equal(filled(Role.NORM), torch.ones(400, 500))
    assert torch.equal(filled(Role.BIAS), torch.zeros(400, 500))


def test_only_the_generator_decides() -> None:
    torch.manual_seed(1)
    first = filled(Role.QUERY)
    torch.manual_seed(2)
    assert torch.equal(filled(Role.QUERY), first)
    assert not torch.equal(filled(Role.QUERY, seed=1), first)


def test_a_deviation_of_nothing_is_refused() -> None:
    assert list(NormalConfig().check()) == []
    assert "above 0" in next(iter(NormalConfig(std=0.0).check()))
