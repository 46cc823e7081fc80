"""Bounds and deviations are those of the formula, and come from the generator alone."""

from __future__ import annotations

import math

import pytest
import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft_xavier.plugin import XavierConfig
from lmgraft_xavier.xavier import Xavier

SHAPE = ModelShape(layers=8, hidden=64)


def filled(role: Role, *size: int, seed: int = 0) -> torch.Tensor:
    tensor = torch.full(size or (400, 500), float("nan"))
    Xavier(XavierConfig()).fill(tensor, TensorRole(role, 3), SHAPE, torch.Generator().manual_seed(seed))
    return tensor


@pytest.mark.parametrize("role", [Role.QUERY, Role.VALUE, Role.MLP_OUT, Role.HEAD, Role.OTHER])
def test_matrices_are_uniform_within_glorots_bound(role: Role) -> None:
    tensor, bound = filled(role), math.sqrt(6 / 900)
    assert tensor.abs().max().item() <= bound
    assert tensor.abs().max().item() > 0.999 * bound
    assert tensor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("role", [Role.EMBEDDING, Role.POSITION])
def test_vectors_of_tokens_have_length_one(role: Role) -> None:
    tensor = filled(role, 3000, 64)
    assert tensor.std().item() == pytest.approx(1 / 8, rel=0.01)
    assert tensor.abs().max().item() > 0.5  # four deviations: no uniform


def test_norms_are_one_and_biases_zero() -> None:
    assert torch.equal(filled(Role.NORM, 7), torch.ones(7))
    assert torch.equal(filled(Role.BIAS, 7), torch.zeros(7))
    assert torch.equal(filled(Role.OTHER, 7), torch.zeros(7))


def test_only_the_generator_decides() -> None:
    torch.manual_seed(1)
    first = filled(Role.QUERY)
    torch.manual_seed(2)
    assert torch.equal(filled(Role.QUERY), first)
    assert not torch.equal(filled(Role.QUERY, seed=1), first)
