"""Weighted average of models (Wortsman et al. 2022, "Model soups", arXiv:2203.05482, section 2: uniform soups).

Every tensor is ``sum_i w_i x_i``, divided by ``sum_i w_i`` with ``normalize``. Beyond the paper: weights. It is
mergekit's ``linear``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lmgraft.errors import UserError

from lmgraft_merges import models as folders
from lmgraft_merges.plugin import LinearConfig, counted

if TYPE_CHECKING:
    from lmgraft.artifacts.blocks import Blocks
    from lmgraft.artifacts.streaming import Rule
    from numpy.typing import NDArray

__all__ = ["Linear", "average"]


class Linear:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: LinearConfig) -> None:
        self._config = config

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Writes the average, with the first model's settings.

        :raises UserError: less than two models, they differ, or there are not as many weights.
        """
        config = self._config
        read = folders.read("linear", models, config.takes_models)
        problems = list(counted("weights", config.weights, len(models), "model", "weights="))
        if problems:
            raise UserError(problems)
        folders.alike(read, config.dtype)
        rule = average(config.weights or [1.0] * len(models), normalize=config.normalize)
        read.write(out, read.plan(config.dtype, lambda name: rule), config.dtype, progress)


def average(weights: Sequence[float], *, normalize: bool) -> Rule:
    """The rule of every tensor."""

    def rule(blocks: Blocks) -> Callable[[int, list[NDArray[Any]]], NDArray[Any]]:
        factors = np.asarray(weights, blocks.kind)
        divisor = factors.sum()

        def block(number: int, sources: list[NDArray[Any]]) -> NDArray[Any]:
            for source, factor in zip(sources, factors, strict=True):
                source *= factor
            total, *others = sources
            for other in others:
                total += other
            if normalize and divisor != 1:
                total /= divisor
            return total

        return block

    return rule
