"""The model.

A block has ``channels`` leaky sums

    s_t = k_t s_(t-1) + (1 - k_t) f_t        k_t = sigmoid(K x_t + c + memory),  f_t = F x_t

whose coefficients depend on the token alone, so that all positions are computed at once: pairs (k, (1 - k) f) combine
associatively. What a block adds to the residual stream is O(s * silu(G x)).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs, Role, TensorRole
from lmgraft.training.asks import COMPUTED, compute
from torch import nn
from torch.nn import functional

from rill_lm.offer import MODEL_TYPE, RillConfig

ROLES = {
    "keep.weight": Role.OTHER,
    "keep.bias": Role.BIAS,
    "fresh.weight": Role.MLP_IN,
    "gate.weight": Role.MLP_GATE,
    "out.weight": Role.MLP_OUT,
    "norm.weight": Role.NORM,
}


class Rill:
    """The part."""

    def __init__(self, config: RillConfig) -> None:
        self.config = config

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        with torch.device(device):
            return Network(self.config, vocab_size)

    def role(self, name: str) -> TensorRole:
        if name == "embed.weight":
            return TensorRole(Role.EMBEDDING)
        if name == "head.weight":
            return TensorRole(Role.HEAD)
        if name == "norm.weight":
            return TensorRole(Role.NORM)
        _, layer, kind = name.split(".", 2)
        return TensorRole(ROLES[kind], int(layer))

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        config = self.config
        matrices = config.depth * 4 * config.hidden * config.channels + config.hidden * vocab_size
        return 6.0 * matrices + 3.0 * config.depth * 8 * config.channels

    def context(self) -> int:
        return self.config.horizon

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["RillForCausalLM"],
            "vocab_size": vocab_size,
            **self.config.to_hub(),
        }

    def spec(self) -> None:
        return None


class Network(nn.Module):
    def __init__(self, config: RillConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.hidden)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = Norm(config.hidden, config.epsilon)
        self.head = nn.Linear(config.hidden, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: list[torch.Tensor] | None = None,
    ) -> Outputs:
        asks = frozenset(asks)
        unknown = asks - COMPUTED - {"next_logits"}
        if unknown:
            raise Fault(f"rill has no {', '.join(sorted(unknown))}")
        starts, padding = borders(segments, fresh=cache is None)
        stream = self.embed(tokens)
        states = []
        for index, block in enumerate(self.layers):
            before = None if cache is None else cache[index]
            stream, state = block(stream, starts, padding, before)
            states.append(state)
        stream = self.norm(stream)
        answers = compute(stream, self.head.weight, targets, asks & COMPUTED)
        if "next_logits" in asks:
            answers.next_logits = self.head(stream[:, -1]).float()
            answers.cache = states
        return answers


class Block(nn.Module):
    def __init__(self, config: RillConfig) -> None:
        super().__init__()
        self.memory = config.memory
        self.norm = Norm(config.hidden, config.epsilon)
        self.keep = nn.Linear(config.hidden, config.channels)
        self.fresh = nn.Linear(config.hidden, config.channels, bias=False)
        self.gate = nn.Linear(config.hidden, config.channels, bias=False)
        self.out = nn.Linear(config.channels, config.hidden, bias=False)

    def forward(
        self,
        stream: torch.Tensor,
        starts: torch.Tensor | None,
        padding: torch.Tensor | None,
        before: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.norm(stream)
        keep = torch.sigmoid(wide(self.keep(x)) + self.memory)
        add = (1 - keep) * wide(self.fresh(x))
        if starts is not None:
            keep = keep.masked_fill(starts, 0.0)
        if padding is not None:
            keep, add = keep.masked_fill(padding, 1.0), add.masked_fill(padding, 0.0)
        if before is not None:
            add = torch.cat([add[:, :1] + keep[:, :1] * before[:, None], add[:, 1:]], 1)
        state = leaky_sums(keep, add)
        return stream + self.out(state * functional.silu(self.gate(x))), state[:, -1]


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def borders(segments: torch.Tensor | None, *, fresh: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(B, T, 1) each: where a segment begins, and where there is padding, over which the state is carried."""
    if segments is None:
        return None, None
    real = segments >= 0
    steps = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    last = torch.where(real, steps, -1).cummax(1).values
    last = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)  # the last real position before each
    before = segments.gather(1, last.clamp(min=0))
    starts = real & torch.where(last >= 0, before != segments, fresh)
    return starts[..., None], ~real[..., None]


def leaky_sums(keep: torch.Tensor, add: torch.Tensor) -> torch.Tensor:
    """s_t = keep_t s_(t-1) + add_t along dimension 1, in log2(T) steps (Hillis and Steele 1986)."""
    reach = 1
    while reach < add.shape[1]:
        add = torch.cat([add[:, :reach], add[:, reach:] + keep[:, reach:] * add[:, :-reach]], 1)
        keep = torch.cat([keep[:, :reach], keep[:, reach:] * keep[:, :-reach]], 1)
        reach *= 2
    return add


def wide(x: torch.Tensor) -> torch.Tensor:
    """At least float32: a sum over hundreds of tokens is no work for eight bits of mantissa."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
