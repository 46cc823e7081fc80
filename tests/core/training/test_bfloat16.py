"""Weights held as bfloat16: what they stand for, the products with them, and what a backward pass holds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from lmgraft.training.bfloat16 import Bfloat16Linear, bfloat16_product
from lmgraft.training.products import product
from torch import nn
from torch.nn import functional


def drawn(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_a_weight_moves_by_a_256th_of_itself_at_most_and_one_of_that_type_keeps_every_bit() -> None:
    given = drawn(48, 40) * torch.logspace(-6, 3, 48)[:, None]
    linear = Bfloat16Linear(40, 48)
    linear.weight.copy_(given)
    assert torch.equal(linear.weight, given.to(torch.bfloat16))
    moved = (linear.weight.double() - given.double()).abs() / given.double().abs()
    assert 2**-10 < float(moved.max()) <= 2**-8
    again = Bfloat16Linear(40, 48)
    again.weight.copy_(linear.weight.float())
    assert torch.equal(again.weight, linear.weight)


def test_it_is_a_buffer_of_half_the_size_that_a_checkpoint_holds_under_the_weights_name() -> None:
    linear, plain = Bfloat16Linear(40, 48, bias=True), nn.Linear(40, 48)
    assert linear.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in linear.named_parameters()] == ["bias"]
    assert linear.weight.nbytes * 2 == plain.weight.nbytes
    assert Bfloat16Linear(40, 48, device="meta").weight.is_meta
    assert repr(linear) == "Bfloat16Linear(in_features=40, out_features=48, bias=True)"


def made(bias: bool = False) -> tuple[Bfloat16Linear, nn.Linear]:
    """One with a drawn weight, and a float32 one with the same."""
    linear, plain = Bfloat16Linear(40, 48, bias=bias), nn.Linear(40, 48, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(drawn(48, 40))
        plain.weight.copy_(linear.weight)
        if linear.bias is not None:
            linear.bias.copy_(plain.bias)
    return linear, plain


def answered(multiply: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]) -> list[torch.Tensor]:
    """The product with drawn numbers, and their gradient."""
    x = drawn(math.prod(shape), 40, 1).view(*shape, 40).requires_grad_()
    out = multiply(x)
    out.float().square().sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad]


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 70), (200,)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_products_and_their_gradients_are_the_rounded_weights(shape: tuple[int, ...], bias: bool) -> None:
    linear, plain = made(bias)

    def same(x: torch.Tensor) -> torch.Tensor:
        out = product(x, plain.weight)
        return out + plain.bias if bias else out

    found, expected = answered(linear, shape), answered(same, shape)
    assert found[0].shape == (*shape, 48)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    with torch.no_grad():
        assert torch.equal(linear(drawn(5, 40)), same(drawn(5, 40)))


@pytest.mark.parametrize("shape", [(3,), (200,)], ids=str)
def test_under_autocast_they_are_those_of_a_float32_weight(shape: tuple[int, ...]) -> None:
    linear, _ = made()
    whole = drawn(48, 40)
    assert not torch.equal(whole, linear.weight.float())

    def cast(multiply: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return answered(multiply, shape)

    found, expected = cast(linear), cast(lambda x: functional.linear(x, whole))
    assert found[0].dtype is torch.bfloat16
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
def test_a_backward_pass_holds_no_copy_of_the_weight(autocast: bool) -> None:
    linear, _ = made()
    kept: list[torch.Tensor] = []
    x = drawn(200, 40).requires_grad_()
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
    ):
        linear(x)
    assert [one.data_ptr() for one in kept if one.numel() == 48 * 40] == [linear.weight.data_ptr()]
    assert all(one.numel() <= 48 * 40 for one in kept)


def test_activations_of_its_own_type_are_multiplied_as_they_are() -> None:
    linear, _ = made()
    x = drawn(7, 40).bfloat16()
    assert torch.equal(bfloat16_product(x, linear.weight), functional.linear(x, linear.weight))
