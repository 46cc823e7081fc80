"""The module beside transformers' LlamaForCausalLM, and beside itself: packed, cached, tied, under autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lmgraft.errors import Fault
from lmgraft.training.asks import COMPUTED
from lmgraft_decoders.architecture import Llama
from lmgraft_decoders.plugin import LlamaConfig, RmsNorm
from torch import nn

V = 61
SMALL: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "mlp": 48, "context": 64}


def made(**settings: Any) -> nn.Module:
    """A model with weights large enough that attention matters."""
    module = Llama(LlamaConfig(**{**SMALL, **settings})).build(V, "cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=generator)
    return module


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def all_logprobs(module: nn.Module, ids: torch.Tensor, **given: Any) -> torch.Tensor:
    """(B, T, V), through the only door there is."""
    targets = torch.arange(V).expand(*ids.shape, V)
    return module(ids, targets=targets, asks={"logprob"}, **given).logprob


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_those_of_transformers(kv_heads: int, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = LlamaConfig(**{**SMALL, "kv_heads": kv_heads}, tied=tied, rope_theta=500.0, norm_eps=1e-4)
    module = made(kv_heads=kv_heads, tied=tied, rope_theta=500.0, norm_eps=1e-4)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**Llama(config).hub_config(V)))
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    theirs.load_state_dict(module.state_dict())
    ids = tokens(3, 20)
    expected = theirs(ids).logits
    assert (all_logprobs(module, ids) - torch.log_softmax(expected, -1)).abs().max() < 1e-4
    assert (module(ids, asks={"next_logits"}).next_logits - expected[:, -1]).abs().max() < 1e-4


def test_gradients_equal_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    module = made()
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**Llama(LlamaConfig(**SMALL)).hub_config(V)))
    theirs.load_state_dict(module.state_dict())
    ids = tokens(3, 20)
    theirs(ids, labels=ids).loss.backward()
    targets = torch.cat((ids[:, 1:], torch.full((3, 1), -1)), 1)
    (-module(ids, targets=targets, asks={"logprob"}).logprob.sum() / (3 * 19)).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in module.named_parameters():
        assert (parameter.grad - expected[name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("norm", list(RmsNorm))
def test_packed_documents_equal_separate_ones(norm: RmsNorm) -> None:
    lengths = [7, 1, 12]
    documents = [tokens(1, length, seed=length) for length in lengths]
    targets = [tokens(1, length, seed=100 + length) for length in lengths]
    pad = 4

    def grads(module: nn.Module) -> dict[str, torch.Tensor]:
        return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}

    apart = made(norm=norm)
    outs = [apart(ids, targets=goal, asks={"logprob"}).logprob for ids, goal in zip(documents, targets, strict=True)]
    sum(out.sum() for out in outs).backward()

    packed = made(norm=norm)
    row = torch.cat([*documents, torch.zeros(1, pad, dtype=torch.long)], 1)
    goal = torch.cat([*targets, torch.full((1, pad), -1)], 1)
    segments = torch.cat([torch.full((1, length), i) for i, length in enumerate(lengths)], 1)
    segments = torch.cat([segments, torch.full((1, pad), -1)], 1)
    positions = torch.cat([torch.arange(length) for length in [*lengths, pad]])[None]
    out = packed(row, positions=positions, segments=segments, targets=goal, asks={"logprob"}).logprob
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert (out[:, :-pad] - torch.cat(outs, 1)).abs().max() < 1e-5
    expected = grads(apart)
    for name, grad in grads(packed).items():
        assert (grad - expected[name]).abs().max() < 1e-5 * max(1.0, expected[name].abs().max().item()), name


@pytest.mark.parametrize("side", ["left", "right", "middle"])
def test_padding_anywhere_changes_nothing(side: str) -> None:
    module = made()
    ids = tokens(2, 9)
    expected = all_logprobs(module, ids)
    where = {"left": range(3, 12), "right": range(9), "middle": [0, 1, 2, 3, 7, 8, 9, 10, 11]}[side]
    at = torch.tensor(list(where))
    wide, segments = torch.zeros(2, 12, dtype=torch.long), torch.full((2, 12), -1)
    positions = torch.zeros(2, 12, dtype=torch.long)
    wide[:, at], segments[:, at], positions[:, at] = ids, 5, torch.arange(9)
    got = all_logprobs(module, wide, positions=positions, segments=segments)
    assert torch.isfinite(got).all()
    assert (got[:, at] - expected).abs().max() < 1e-5


def test_the_future_is_not_seen() -> None:
    module = made()
    first, second = tokens(1, 16), tokens(1, 16)
    second[0, 10:] = (second[0, 10:] + 1) % V
    left, right = all_logprobs(module, first), all_logprobs(module, second)
    assert torch.equal(left[:, :10], right[:, :10])
    assert (left[:, 10:] - right[:, 10:]).abs().max() > 1e-3


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_a_cache_changes_nothing(kv_heads: int) -> None:
    module = made(kv_heads=kv_heads)
    ids = tokens(2, 80)
    with torch.inference_mode():
        out = module(ids[:, :5], asks={"next_logits"})
        at = 5
        # Single tokens, runs of them, to the end of the first buffer (64 tokens) and one beyond.
        for size in (1, 1, 7, 1, 49, 1, 1):
            expected = module(ids[:, :at], asks={"next_logits"}).next_logits
            assert (out.next_logits - expected).abs().max() < 1e-5
            positions = torch.arange(at, at + size)[None] if size == 7 else None
            out = module(ids[:, at : at + size], positions=positions, asks={"next_logits"}, cache=out.cache)
            at += size
        assert (out.next_logits - module(ids[:, :at], asks={"next_logits"}).next_logits).abs().max() < 1e-5


def test_a_cache_keeps_left_padding_apart() -> None:
    module = made()
    ids = tokens(1, 8)
    wide = torch.cat((torch.zeros(1, 3, dtype=torch.long), ids), 1)
    segments = torch.tensor([[-1] * 3 + [0] * 8])
    with torch.inference_mode():
        expected = module(ids, asks={"next_logits"}).next_logits
        out = module(wide[:, :9], positions=torch.arange(-3, 6)[None], segments=segments[:, :9], asks={"next_logits"})
        out = module(wide[:, 9:], positions=torch.arange(6, 8)[None], asks={"next_logits"}, cache=out.cache)
    assert (out.next_logits - expected).abs().max() < 1e-5


def test_everything_asked_at_once() -> None:
    module = made()
    ids = tokens(2, 8)
    out = module(ids, targets=ids, asks=COMPUTED | {"next_logits"})
    logprobs = all_logprobs(module, ids)
    assert torch.allclose(out.entropy, -(logprobs.exp() * logprobs).sum(-1), atol=1e-5)
    assert torch.allclose(out.vocab_mean, logprobs.mean(-1), atol=1e-5)
    assert torch.equal(out.greedy, logprobs.argmax(-1) == ids)
    assert torch.allclose(torch.log_softmax(out.next_logits, -1), logprobs[:, -1], atol=1e-5)
    assert module(ids).logprob is None


def test_what_it_cannot_answer_is_said() -> None:
    with pytest.raises(Fault, match="value"):
        made()(tokens(1, 4), asks={"value"})


def test_bfloat16_stays_close_and_weights_stay_float32() -> None:
    module = made()
    ids = tokens(2, 16)
    exact = module(ids, targets=ids, asks={"logprob"}).logprob
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(ids, targets=ids, asks={"logprob"}).logprob
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()
    rough.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())


def test_meta_allocates_nothing_and_keeps_the_tie_when_moved() -> None:
    # A 7B model: 27 GB, if anything were allocated.
    big = Llama(LlamaConfig(layers=32, hidden=4096, heads=32, kv_heads=32, mlp=11008)).build(32_000)
    assert {parameter.device.type for parameter in big.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in big.parameters()) == 6_738_415_616
    tied = Llama(LlamaConfig(**SMALL, tied=True)).build(V).to_empty(device="cpu")
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(tied.named_parameters())
    assert not list(tied.buffers())


def test_without_norms_there_are_no_norm_weights() -> None:
    names = [name for name, _ in made(norm=RmsNorm.none).named_parameters()]
    assert not [name for name in names if "norm" in name]
    assert torch.isfinite(all_logprobs(made(norm=RmsNorm.none), tokens(1, 8))).all()


def test_the_gradients_of_the_hand_written_functions() -> None:
    from lmgraft_decoders.norm import _RMSNorm
    from lmgraft_decoders.rope import rotate, tables

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: _RMSNorm.apply(a, b, 1e-3, torch.float64), (x, weight))
    heads = torch.randn(2, 3, 2, 4, generator=generator, dtype=torch.float64).requires_grad_()
    cos, sin = tables(torch.tensor([[0, 1, 5], [2, 3, 4]]), torch.tensor([1.0, 0.1]), torch.float64)
    assert torch.autograd.gradcheck(lambda a: rotate(a, cos, sin), (heads,))
