"""Products by either library are the same product, forward and backward."""

from __future__ import annotations

import pytest
import torch
from lmgraft.training import products
from lmgraft.training.products import product
from torch.nn import functional

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not torch.backends.mkldnn.is_available(),
    reason="this torch has no oneDNN",
)


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, rows, 48, generator=generator).requires_grad_()
    weight = torch.randn(40, 48, generator=generator).requires_grad_()
    return x, weight


@needs_onednn
@pytest.mark.parametrize("strided", [False, True])
def test_onednn_agrees_with_torch(monkeypatch: pytest.MonkeyPatch, strided: bool) -> None:
    monkeypatch.setattr(products, "_faster_here", lambda: True)
    x, weight = inputs(70)
    given = x.transpose(0, 1) if strided else x
    ours, theirs = product(given, weight), functional.linear(given, weight)
    assert ours.grad_fn is not None
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    for grad in (upstream, upstream[:1].expand_as(upstream)):
        actual = torch.autograd.grad(ours, (x, weight), grad, retain_graph=True)
        expected = torch.autograd.grad(theirs, (x, weight), grad, retain_graph=True)
        for left, right in zip(actual, expected, strict=True):
            assert (left - right).abs().max() < 1e-5 * right.abs().max()


@needs_onednn
def test_a_frozen_side_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_faster_here", lambda: True)
    x, weight = inputs(70)
    product(x, weight.detach()).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("case", ["few rows", "float64", "autocast", "slower here"])
def test_elsewhere_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(products, "_faster_here", lambda: case != "slower here")
    monkeypatch.setattr(products, "_onednn", lambda *_: pytest.fail("oneDNN was called"))
    x, weight = inputs(1 if case == "few rows" else 70)
    if case == "float64":
        x, weight = x.double(), weight.double()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "autocast"):
        assert torch.equal(product(x, weight), functional.linear(x, weight))
