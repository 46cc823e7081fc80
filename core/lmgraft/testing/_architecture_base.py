"""What every check of an architecture is made with: settings of the suite, filled modules, tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from lmgraft.seams.architecture import Architecture, TensorRole
from lmgraft.testing import modules
from lmgraft.testing.common import PartSuite

__all__ = ["ArchitectureBase"]


class ArchitectureBase(PartSuite):
    """The settings of :class:`lmgraft.testing.ArchitectureSuite`."""

    seam = "architecture"
    vocab_size: ClassVar[int] = 97
    """Entries of the vocabulary that models are built with; odd, so that nothing rests on its dividing."""
    length: ClassVar[int] = 24
    """Tokens of a sequence that is shown, or the context where that is shorter."""
    tolerance: ClassVar[float] = 1e-4
    """Of an answer, absolute below 1 and relative above."""

    def draw(self, tensor: torch.Tensor, role: TensorRole, generator: torch.Generator) -> None:
        """Fills a weight that the checks are made with: normal numbers, norms around 1."""
        modules.draw(tensor, role, generator)

    def behaviour(self, part: Any) -> Any:
        module = self.module(part)
        ids, targets = self._shown(part, 2)
        asks = sorted(modules.answered(module) - {"next_logits"})
        out = modules.answers(module, ids, targets, asks)
        return {
            "outputs": {ask: answer.contiguous().numpy().tobytes() for ask, answer in out.items()},
            "parameters": [[name, list(one.shape), str(part.role(name))] for name, one in module.named_parameters()],
            "flops": part.flops(self.length, self.vocab_size),
            "config": part.hub_config(self.vocab_size),
        }

    def module(self, part: Architecture) -> nn.Module:
        """The part's module with the kit's weights, on the CPU, in evaluation mode."""
        return modules.filled(part, self.vocab_size, self.name, self.draw)

    def _length(self, part: Architecture) -> int:
        context = part.context()
        fact = f"{self.name}: context() is {context!r}"
        self.require(isinstance(context, int), fact, "it is the longest sequence, in tokens", "return a whole number")
        length = min(self.length, context)
        remedy = "give the suite settings with a longer context"
        self.require(length >= 4, f"{self.name} takes {length} tokens", "the checks need four", remedy)
        return length

    def _shown(self, part: Architecture, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and targets, (rows, length) each."""
        stream = modules.tokens(rows, self._length(part) + 1, self.vocab_size)
        return stream[:, :-1], stream[:, 1:]

    def _asks(self, module: nn.Module) -> list[str]:
        there = modules.answered(module)
        return [ask for ask in modules.POSITIONWISE if ask in there]
