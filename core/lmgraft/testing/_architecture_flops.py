"""What an architecture says that a token costs, held against the products that its forward pass makes."""

from __future__ import annotations

import math
import re
from collections import Counter

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmgraft.seams.architecture import Architecture, Role
from lmgraft.testing import modules
from lmgraft.testing._architecture_base import ArchitectureBase

__all__ = ["ArchitectureFlops"]

#: What is said may be off from what is counted by this share.
_ROUNDING = 0.02
#: A backward pass makes two products for each one of the forward pass.
_TRAINING = 3
_TABLES = (Role.EMBEDDING, Role.POSITION)
_REMEDY = (
    "6 for each weight of a matrix product, and what attention takes at this length: 12 * its width * seq_len a layer, "
    "or half of that where only tokens before are counted"
)


class ArchitectureFlops(ArchitectureBase):
    """FLOPs."""

    def test_flops(self) -> None:
        """training FLOPs a token count every matrix product, the head and attention too, and grow with the sequence"""
        part = self.build()
        self._sane(part)
        spec = part.spec()
        if spec is not None and spec.experts:
            return  # which of them a token goes through is not to be seen in products
        module, short, long = self.module(part), 4, self._length(part)
        once, told = self._counted(module, short), part.flops(short, self.vocab_size)
        if long > short:
            grown = part.flops(long, self.vocab_size) - told
            more = self._counted(module, long) - once
            self.require(
                grown >= (1 - _ROUNDING) * more / 2,
                f"{self.name}: flops() grows by {grown:.6g} from the length {short} to {long}",
                f"the products of its forward pass grow by {more:.6g}; half of that would be a causal count",
                _REMEDY,
            )
        # Half of attention belongs to tokens that come later, and may be left out: a causal count at this length is a
        # full one at half of it.
        least = self._counted(module, short // 2)
        self.require(
            told >= (1 - _ROUNDING) * least,
            f"{self.name}: flops({short}, {self.vocab_size}) is {told:.6g}",
            f"the products of its forward pass, three times for the backward pass too, take {once:.6g} a token"
            + self._missing(part, module, (once - told, least - told)),
            _REMEDY,
        )
        if spec is not None:
            for length in (short, long):
                told, most = part.flops(length, self.vocab_size), self._counted(module, length)
                fact = f"{self.name}: flops({length}, {self.vocab_size}) is {told:.6g}"
                cause = f"a decoder makes no other products than those of its forward pass, which take {most:.6g}"
                self.require(told <= (1 + _ROUNDING) * most, fact, cause, _REMEDY)

    def _sane(self, part: Architecture) -> None:
        lengths = (1, 16, 64, max(64, part.context()))
        found = [part.flops(length, self.vocab_size) for length in lengths]
        bare = part.flops(64)
        finite = all(isinstance(one, int | float) and math.isfinite(one) and one > 0 for one in (*found, bare))
        self.require(finite, f"{self.name}: flops() gives {found}", "they are positive numbers", _REMEDY)
        cause = f"at the lengths {', '.join(map(str, lengths))} they are {', '.join(f'{one:.4g}' for one in found)}"
        self.require(found == sorted(found), f"{self.name}: flops() falls with the length", cause, _REMEDY)
        fact = f"{self.name}: flops() with the head are fewer than without"
        self.require(found[2] >= bare, fact, f"{found[2]:.4g} and {bare:.4g}", _REMEDY)

    def _counted(self, module: nn.Module, length: int) -> float:
        """Training FLOPs a token of all products that torch sees; what runs element by element is not among them."""
        ids = modules.tokens(1, length, self.vocab_size)
        # Fused attention on the CPU is not counted; its plain form is, as two products.
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            module(ids, targets=ids, asks=frozenset({"logprob"}))
        return float(_TRAINING * counter.get_total_flops() / length)

    def _missing(self, part: Architecture, module: nn.Module, amounts: tuple[float, ...]) -> str:
        """The matrix, of one layer or of all, that takes what is missing."""
        sizes = Counter[str]()
        # A table that is looked up takes nothing, unless it is the head as well.
        matrices = [(name, one) for name, one in module.named_parameters() if one.dim() == 2]
        for name, one in sorted(matrices, key=lambda pair: part.role(pair[0]).role in _TABLES):
            of_all_layers = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
            for key in dict.fromkeys((name, of_all_layers)):
                sizes[key] += one.numel()
        for name, size in sizes.items():
            if any(abs(amount - 6 * size) <= 1e-3 * 6 * size for amount in amounts):
                return f"; what is missing is as much as {name} takes"
        return ""
