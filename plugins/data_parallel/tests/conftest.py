"""A small transformer of the tests' own: attention with segments and a cache, learned positions, a tied head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from lmgraft.seams.architecture import Outputs, Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft.seams.objective import Batch, Loss
from lmgraft.seams.parallelism import EnginePlan
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

VOCABULARY, CONTEXT, HIDDEN, HEADS = 48, 32, 32, 4


class Tiny(nn.Module):
    def __init__(self, vocab_size: int, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, HIDDEN)
        self.place = nn.Embedding(CONTEXT, HIDDEN)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = nn.Linear(HIDDEN, HIDDEN)
        self.mlp = nn.Sequential(nn.Linear(HIDDEN, 2 * HIDDEN), nn.GELU(), nn.Linear(2 * HIDDEN, HIDDEN))
        self.lm_head = nn.Linear(HIDDEN, vocab_size, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: frozenset[str] = frozenset(),
        cache: Any = None,
    ) -> Outputs:
        B, T = tokens.shape
        if positions is None:
            positions = torch.arange(T, device=tokens.device)[None]
        x = self.embed(tokens) + self.place(positions)
        q, k, v = (part.view(B, T, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        seen = torch.ones(T, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - T)
        if segments is not None:
            seen = (segments[:, None, :, None] == segments[:, None, None, :]) & seen
        x = x + self.out(scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(B, T, -1))
        logits = self.lm_head(x + self.mlp(x)).float()
        out = Outputs(cache=(k, v) if "next_logits" in asks else None)
        if "next_logits" in asks:
            out.next_logits = logits[:, -1]
        if targets is not None:
            logprobs = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
            out.logprob = logprobs.masked_fill(targets < 0, 0)
            out.greedy = logits.argmax(-1) == targets
        return out


class TinyArchitecture:
    def __init__(self, tied: bool = True) -> None:
        self.tied = tied

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        with torch.device(device):
            return Tiny(vocab_size, self.tied)

    def role(self, name: str) -> TensorRole:
        return TensorRole(Role.BIAS if name.endswith("bias") else Role.OTHER)

    def flops(self, seq_len: int) -> float:
        return 0.0

    def context(self) -> int:
        return CONTEXT

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        return {"model_type": "tiny", "vocab_size": vocab_size, "tie_word_embeddings": self.tied}

    def spec(self) -> None:
        return None


class Gauss:
    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        tensor.normal_(0.0, 0.3, generator=generator)


class NextToken:
    """Cross entropy, and a second term with a denominator of its own."""

    asks = frozenset({"logprob"})

    def columns(self) -> frozenset[str]:
        return frozenset({"text"})

    def encode(self, document: Any, tokenizer: Any) -> list[Any]:
        return []

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch.weights.sum()), "rows": float((batch.weights.sum(1) > 0).sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Any) -> Loss:
        assert out.logprob is not None
        total = -(out.logprob * batch.weights).sum()
        squares = ((out.logprob * batch.weights).sum(1) ** 2).sum() * 1e-3
        count = float(batch.weights.sum())
        return Loss({"tokens": total, "rows": squares}, {"nats": (float(total.detach()), count)})


class Adam:
    def peak(self) -> float:
        return 0.01

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        weights = [parameter for _, parameter, role in parameters if role.role is not Role.BIAS]
        biases = [parameter for _, parameter, role in parameters if role.role is Role.BIAS]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "scale": 0.5}]
        return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_plan() -> Callable[..., EnginePlan]:
    def make(tied: bool = True, **changes: Any) -> EnginePlan:
        settings: dict[str, Any] = {
            "architecture": TinyArchitecture(tied),
            "vocab_size": VOCABULARY,
            "device": "cpu",
            "precision": "float32",
            "seed": 3,
            "initializer": Gauss(),
            "objective": NextToken(),
            "optimizer": Adam(),
            "clip": 1.0,
        }
        return EnginePlan(**(settings | changes))

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Rows of different lengths, padded; ``lengths`` gives the number of predictions of each."""

    def make(lengths: Sequence[int], seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        width = max(lengths)
        ids = torch.randint(0, VOCABULARY, (len(lengths), width + 1), generator=generator)
        there = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
        return Batch(
            tokens=ids[:, :-1].contiguous(),
            targets=ids[:, 1:].masked_fill(~there, -1),
            weights=there.float(),
            positions=torch.arange(width).expand(len(lengths), -1).contiguous(),
            segments=torch.where(there, 0, -1),
        )

    return make


@pytest.fixture
def split_batch() -> Callable[[Batch, int], list[Batch]]:
    """The same rows as microbatches of ``size`` rows."""

    def split(batch: Batch, size: int) -> list[Batch]:
        assert batch.segments is not None
        fields = (batch.tokens, batch.targets, batch.weights, batch.positions, batch.segments)
        return [Batch(*parts) for parts in zip(*(field.split(size) for field in fields), strict=True)]

    return split
