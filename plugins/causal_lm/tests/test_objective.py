"""Sums and totals: neither microbatches, padding nor order change the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch
from lmgraft.training.asks import compute
from lmgraft_causal_lm.objective import CausalLM
from lmgraft_causal_lm.plugin import CausalLMConfig

V, D = 13, 8


class Letters:
    """A tokenizer of single letters; 0 ends, 1 pads."""

    vocab_size, end_id, pad_id = V, 0, 1

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[2 + ord(letter) - ord("a") for letter in text] for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return "".join(chr(ord("a") + i - 2) for i in ids)

    def token_bytes(self) -> list[int]:
        return [0, 0] + [1] * (V - 2)

    def fingerprint(self) -> str:
        return "letters"


def batch(texts: Sequence[str], objective: CausalLM, pad: int = 0) -> Batch:
    """One document a row, padded at its right to the longest and ``pad`` more."""
    examples = [objective.encode(Document(id=text, text=text), Letters())[0] for text in texts]
    width = max(len(example.tokens) for example in examples) - 1 + pad
    shape = (len(examples), width)
    tokens, targets = torch.ones(shape, dtype=torch.long), torch.full(shape, -1)
    weights = torch.zeros(shape)
    for row, example in enumerate(examples):
        length = len(example.tokens) - 1
        tokens[row, :length] = torch.tensor(example.tokens[:-1])
        targets[row, :length] = torch.tensor(example.tokens[1:])
        weights[row, :length] = torch.tensor(example.weights[1:])
    return Batch(tokens, targets, weights, torch.arange(width).expand(shape))


def gradients(batches: Sequence[Batch], objective: CausalLM) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The loss and the gradients of a bigram model, as an engine computes them."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(V, D, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(V, D, generator=generator, dtype=torch.float64).requires_grad_()
    total = sum(objective.normalizers(part)["tokens"] for part in batches)
    loss = 0.0
    for part in batches:
        out = compute(table[part.tokens], head, part.targets, objective.asks)
        value = objective.loss(out, part, {}).terms["tokens"] / total
        value.backward()
        loss += float(value.detach())
    assert table.grad is not None
    assert head.grad is not None
    return loss, table.grad, head.grad


TEXTS = ["abcab", "k", "ghighighi", "ed"]


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
@pytest.mark.parametrize(
    ("split", "pad"),
    [([TEXTS[:1], TEXTS[1:]], 0), ([[text] for text in TEXTS], 0), ([TEXTS], 7), ([TEXTS[::-1]], 0)],
)
def test_split_padding_and_order_change_nothing(split: list[list[str]], pad: int, z_loss: float) -> None:
    objective = CausalLM(CausalLMConfig(z_loss=z_loss))
    whole = gradients([batch(TEXTS, objective)], objective)
    parts = gradients([batch(texts, objective, pad) for texts in split], objective)
    assert parts[0] == pytest.approx(whole[0], abs=1e-6)
    for left, right in zip(parts[1:], whole[1:], strict=True):
        assert (left - right).abs().max() < 1e-6


def test_the_loss_is_the_mean_cross_entropy_of_what_is_predicted() -> None:
    objective = CausalLM(CausalLMConfig())
    part = batch(TEXTS, objective)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(V, D, generator=generator, dtype=torch.float64)
    head = torch.randn(V, D, generator=generator, dtype=torch.float64)
    logits = (table[part.tokens] @ head.T).view(-1, V)
    expected = torch.nn.functional.cross_entropy(logits, part.targets.view(-1), ignore_index=-1)
    assert gradients([part], objective)[0] == pytest.approx(float(expected), abs=1e-6)
    assert objective.normalizers(part) == {"tokens": sum(len(text) + 1 for text in TEXTS)}


def test_z_loss_adds_the_squared_log_of_the_denominator() -> None:
    objective = CausalLM(CausalLMConfig(z_loss=0.5))
    part = batch(["abc"], objective)
    hidden = torch.randn(1, 4, D, generator=torch.Generator().manual_seed(3))
    out = compute(hidden, torch.eye(V, D), part.targets, objective.asks)
    loss = objective.loss(out, part, {})
    assert out.logprob is not None
    assert out.logsumexp is not None
    nll = -out.logprob.sum()
    assert torch.isclose(loss.terms["tokens"], nll + 0.5 * (out.logsumexp**2).sum())
    assert loss.metrics["nll"] == pytest.approx((float(nll), 4.0))


def test_a_weight_without_a_target_counts_nothing() -> None:
    objective = CausalLM(CausalLMConfig(z_loss=0.3))
    part, careless = batch(TEXTS, objective), batch(TEXTS, objective)
    careless.weights = torch.ones_like(careless.weights)
    assert objective.normalizers(careless) == objective.normalizers(part)
    assert gradients([careless], objective)[0] == gradients([part], objective)[0]


def test_a_document_begins_and_ends_with_the_end_token() -> None:
    (example,) = CausalLM(CausalLMConfig()).encode(Document(id="1", text="abc"), Letters())
    assert example.tokens == [0, 2, 3, 4, 0]
    assert example.weights == [0, 1, 1, 1, 1]
    assert CausalLM(CausalLMConfig()).encode(Document(id="2", text=""), Letters()) == []


def test_it_asks_for_no_more_than_it_needs() -> None:
    assert CausalLM(CausalLMConfig()).asks == {"logprob"}
    assert CausalLM(CausalLMConfig(z_loss=1e-4)).asks == {"logprob", "logsumexp"}
    assert CausalLMConfig().needs() == {"columns:text"}
    assert list(CausalLMConfig().check()) == []
    assert "z_loss" in next(iter(CausalLMConfig(z_loss=-1).check()))
