"""Per-position quantities: values and gradients beside the plain formula over all logits."""

from __future__ import annotations

import pytest
import torch
from lmgraft.errors import Fault
from lmgraft.training import asks
from lmgraft.training.asks import COMPUTED, compute

B, T, D, V, K = 2, 5, 6, 11, 3


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(B, T, D, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator, dtype=dtype).requires_grad_()
    return hidden, weight


def labels(many: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (B, T, K) if many else (B, T)
    targets = torch.randint(0, V, shape, generator=generator)
    targets[0, 1] = -1
    targets[1, 4] = -100
    return targets


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """The definitions, one by one, over the whole (B, T, V)."""
    logits = hidden @ weight.T
    log_p = torch.log_softmax(logits, -1)
    wide = targets if targets.dim() == 3 else targets[..., None]
    asked = wide >= 0
    logprob = torch.where(asked, log_p.gather(-1, wide.clamp(min=0)), 0.0)
    greedy = (logits.argmax(-1, keepdim=True) == wide) & asked
    return {
        "logprob": logprob.view(targets.shape),
        "logsumexp": torch.logsumexp(logits, -1),
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "vocab_mean": log_p.mean(-1),
        "greedy": greedy.view(targets.shape),
    }


@pytest.mark.parametrize("keep", [0, 1 << 30])
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("wanted", [{"logprob"}, {"logprob", "logsumexp"}, {"entropy"}, {"greedy"}, COMPUTED])
def test_values_and_gradients_equal_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch, wanted: set[str], many: bool, chunk: int | None, keep: int
) -> None:
    monkeypatch.setattr(asks, "KEEP_BYTES", keep)
    targets = labels(many)
    hidden, weight = inputs()
    reference = plain(hidden, weight, targets)
    out = compute(hidden, weight, targets, wanted, chunk)
    generator = torch.Generator().manual_seed(3)
    ours, theirs = [], []
    for name in sorted(COMPUTED):
        got = getattr(out, name)
        if name not in wanted:
            assert got is None
            continue
        assert got.shape == reference[name].shape
        assert torch.allclose(got.double(), reference[name].double(), atol=1e-12, rtol=0), name
        if name != "greedy":
            upstream = torch.randn(got.shape, generator=generator, dtype=got.dtype)
            ours.append((got * upstream).sum())
            theirs.append((reference[name] * upstream).sum())
    if not ours:
        return
    expected = torch.autograd.grad(sum(theirs), (hidden, weight))
    actual = torch.autograd.grad(sum(ours), (hidden, weight))
    for left, right in zip(actual, expected, strict=True):
        assert (left - right).abs().max() < 1e-10


def test_finite_differences_agree() -> None:
    hidden, weight = inputs()

    def answers(h: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = compute(h, w, labels(True), {"logprob", "logsumexp", "entropy", "vocab_mean"}, 3)
        assert out.logprob is not None
        assert out.logsumexp is not None
        assert out.entropy is not None
        assert out.vocab_mean is not None
        return out.logprob, out.logsumexp, out.entropy, out.vocab_mean

    assert torch.autograd.gradcheck(answers, (hidden, weight), atol=1e-6, fast_mode=True)


def test_a_negative_target_sends_no_gradient() -> None:
    hidden, weight = inputs()
    out = compute(hidden, weight, labels(False), {"logprob", "greedy"})
    assert out.logprob is not None
    assert out.greedy is not None
    assert out.logprob[0, 1] == 0
    assert not out.greedy[0, 1]
    (grad,) = torch.autograd.grad(out.logprob.sum(), hidden)
    assert torch.equal(grad[0, 1], torch.zeros(D, dtype=grad.dtype))
    assert (grad[0, 2] != 0).any()


def test_nothing_to_predict_at_all() -> None:
    hidden, weight = inputs()
    out = compute(hidden, weight, torch.full((B, T), -1), {"logprob"})
    assert out.logprob is not None
    grads = torch.autograd.grad(out.logprob.sum(), (hidden, weight))
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)


def test_flat_positions_are_taken_too() -> None:
    hidden, weight = inputs()
    flat = compute(hidden.view(-1, D), weight, labels(False).view(-1), {"logprob"}).logprob
    rows = compute(hidden, weight, labels(False), {"logprob"}).logprob
    assert flat is not None
    assert rows is not None
    assert torch.equal(flat, rows.view(-1))


def test_huge_logits_stay_finite() -> None:
    hidden, weight = inputs(torch.float32)
    out = compute(hidden * 1e4, weight, labels(False), {"logprob", "entropy", "logsumexp"})
    assert out.logprob is not None
    assert out.entropy is not None
    assert out.logsumexp is not None
    (grad,) = torch.autograd.grad(out.logprob.sum() + out.entropy.sum() + out.logsumexp.sum(), hidden)
    assert torch.isfinite(grad).all()
    assert out.logprob.min() < -1000


def test_bfloat16_is_summed_in_float32() -> None:
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(3, 64, generator=generator)
    weight = torch.randn(5000, 64, generator=generator) * 0.02
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = compute(hidden, weight, torch.tensor([1, 2, 3]), {"logprob", "logsumexp"})
    assert out.logprob is not None
    assert out.logsumexp is not None
    assert out.logprob.dtype == out.logsumexp.dtype == torch.float32
    # The product is rounded to bfloat16 (8 bits); a sum of 5000 terms in bfloat16 would be off by far more.
    exact = torch.logsumexp((hidden.bfloat16() @ weight.bfloat16().T).double(), -1)
    assert (out.logsumexp.double() - exact).abs().max() < 1e-5


def test_bfloat16_gradients_are_close_in_one_chunk_or_many() -> None:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(64, 32, generator=generator).requires_grad_()
    weight = (torch.randn(50, 32, generator=generator) * 0.1).requires_grad_()
    targets = torch.randint(0, 50, (64,), generator=generator)
    exact = compute(hidden, weight, targets, {"logprob"}).logprob
    assert exact is not None
    expected = torch.autograd.grad(exact.sum(), (hidden, weight))
    for chunk in (8, 64):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = compute(hidden, weight, targets, {"logprob"}, chunk).logprob
        assert out is not None
        for left, right in zip(torch.autograd.grad(out.sum(), (hidden, weight)), expected, strict=True):
            assert left.dtype == torch.float32
            assert (left - right).norm() < 0.02 * right.norm()


def test_chunks_do_not_keep_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asks, "KEEP_BYTES", 0)
    sizes: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    hidden, weight = torch.randn(64, 4, requires_grad=True), torch.randn(1000, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute(hidden, weight, torch.zeros(64, dtype=torch.long), {"logprob"}, 8)
    assert sizes
    assert max(sizes) <= weight.numel()


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = inputs()
    out = compute(hidden, weight.detach(), labels(False), {"logprob"})
    assert out.logprob is not None
    out.logprob.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_what_cannot_be_computed_is_said() -> None:
    hidden, weight = inputs()
    with pytest.raises(Fault, match="value"):
        compute(hidden, weight, labels(False), {"value"})
    with pytest.raises(Fault, match="without targets"):
        compute(hidden, weight, None, {"logprob"})
    assert compute(hidden, weight, None, ()).logprob is None
    assert compute(hidden, weight, None, {"entropy"}).entropy is not None
