"""Each role's deviation, by hand from the paper's section 3.3, and what a recipe is asked for."""

from __future__ import annotations

import math

import pytest
import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft_tfixup.plugin import TFixupConfig
from lmgraft_tfixup.tfixup import TFixup

GLOROT = math.sqrt(2 / 900)  # the deviation of a uniform matrix of 400 x 500


def filled(role: Role, layers: int, *size: int, config: TFixupConfig | None = None) -> torch.Tensor:
    tensor = torch.full(size or (400, 500), float("nan"))
    shape = ModelShape(layers=layers, hidden=64)
    generator = torch.Generator().manual_seed(0)
    TFixup(config or TFixupConfig()).fill(tensor, TensorRole(role, 3), shape, generator)
    return tensor


@pytest.mark.parametrize("role", [Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT])
def test_branches_shrink_with_the_fourth_root_of_the_depth(role: Role) -> None:
    assert filled(role, 16).std().item() == pytest.approx(0.67 / 2 * GLOROT, rel=0.01)
    assert filled(role, 81).std().item() == pytest.approx(0.67 / 3 * GLOROT, rel=0.01)
    assert filled(role, 16, config=TFixupConfig(branch=1.0)).std().item() == pytest.approx(GLOROT / 2, rel=0.01)


@pytest.mark.parametrize("role", [Role.QUERY, Role.KEY, Role.HEAD, Role.OTHER])
def test_other_matrices_are_xavier_at_any_depth(role: Role) -> None:
    assert filled(role, 81).std().item() == pytest.approx(GLOROT, rel=0.01)
    assert filled(role, 81).abs().max().item() <= math.sqrt(6 / 900)


@pytest.mark.parametrize("role", [Role.EMBEDDING, Role.POSITION])
def test_embeddings_shrink_with_nine_times_the_depth(role: Role) -> None:
    assert filled(role, 9, 3000, 64).std().item() == pytest.approx(1 / 8 / 3, rel=0.01)  # (9 * 9)^(1/4) = 3


def test_embeddings_at_another_scale() -> None:
    config = TFixupConfig(embedding=1.0)
    assert filled(Role.EMBEDDING, 9, 3000, 64, config=config).std().item() == pytest.approx(1 / 3, rel=0.01)
    assert "above 0" in next(iter(TFixupConfig(embedding=0.0).check()))


def test_norms_are_one_and_biases_zero() -> None:
    assert torch.equal(filled(Role.NORM, 4, 7), torch.ones(7))
    assert torch.equal(filled(Role.BIAS, 4, 7), torch.zeros(7))


def test_the_constant_solves_the_condition_of_two_branches() -> None:
    a = TFixupConfig().branch
    assert 2 * a**4 + 4 / 3 * a**2 == pytest.approx(1, abs=0.01)


def test_a_model_with_norms_is_refused_and_so_is_nothing() -> None:
    assert TFixupConfig().needs() == {"no_norm"}
    assert list(TFixupConfig().check()) == []
    assert "above 0" in next(iter(TFixupConfig(branch=0.0).check()))
