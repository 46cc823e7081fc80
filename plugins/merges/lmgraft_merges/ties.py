"""TIES: several fine-tunes of one base (Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models",
arXiv:2306.01708, section 3 and algorithm 1).

Of each model what training changed (its task vector: model less base) is trimmed to its largest magnitudes; models then
elect the sign of every weight, that of the sum of their changes; and the changes of that sign are averaged and added to
the base, times lambda.

Rules beyond the paper, which are mergekit's too: a tensor is trimmed by itself (the paper trims a model as a whole);
models have weights, which multiply changes before the election and divide the mean; of equal magnitudes at the limit
those that come first in the tensor are kept; a weight whose changes cancel out takes the positive sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lmgraft.errors import Problem, UserError

from lmgraft_merges import models as folders
from lmgraft_merges.plugin import Sign, TiesConfig, counted
from lmgraft_merges.trimming import largest

if TYPE_CHECKING:
    from lmgraft.artifacts.blocks import Blocks
    from lmgraft.artifacts.streaming import Rule
    from numpy.typing import NDArray

__all__ = ["Election", "Ties", "consensus"]


class Ties:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: TiesConfig) -> None:
        self._config = config

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Writes the base with the merged changes, and with its settings.

        :raises UserError: less than two models, they differ, or there are not as many weights as models but one.
        """
        config = self._config
        read = folders.read("ties", models, config.takes_models)
        others = len(models) - 1
        problems = [
            problem
            for key in ("weights", "densities")
            for problem in counted(key, getattr(config, key), others, "model beside the base", f"{key}=")
        ]
        if config.base > others:
            cause = f"there are {len(models)} models, counted from 0"
            problems.append(Problem(f"base={config.base} is no model", cause, "base=0"))
        if problems:
            raise UserError(problems)
        folders.alike(read, config.dtype)
        election = Election(
            base=config.base,
            densities=config.densities or [config.density] * others,
            weights=config.weights or [1.0] * others,
            normalize=config.normalize,
            scale=config.scale,
            count=config.sign is Sign.count,
            rescale=config.rescale,
        )
        rule = consensus(election)
        read.write(out, read.plan(config.dtype, lambda name: rule), config.dtype, progress, like=config.base)


@dataclass(frozen=True, slots=True)
class Election:
    """How changes are merged; see :class:`~lmgraft_merges.plugin.TiesConfig`."""

    base: int
    """Which of the sources is the base."""
    densities: Sequence[float]
    """Of each other source."""
    weights: Sequence[float]
    """Of each other source."""
    normalize: bool = True
    """A mean and not a sum."""
    scale: float = 1.0
    """Lambda."""
    count: bool = False
    """Sources are counted, and not their changes summed up."""
    rescale: bool = False
    """What is kept gets the sum of magnitudes of all."""


def consensus(election: Election) -> Rule:
    """The rule of every tensor."""

    def rule(blocks: Blocks) -> Callable[[int, list[NDArray[Any]]], NDArray[Any]]:
        trims = largest(blocks, lambda sources: _changes(sources, election.base), election)

        def block(number: int, sources: list[NDArray[Any]]) -> NDArray[Any]:
            changes = _changes(sources, election.base)
            for change, trim, weight in zip(changes, trims, election.weights, strict=True):
                trim.apply(change, number)
                change *= change.dtype.type(weight)
            base = sources[election.base]
            base += _merged(changes, election)
            return base

        return block

    return rule


def _changes(sources: list[NDArray[Any]], base: int) -> list[NDArray[Any]]:
    """What each source but the base differs from it by, in its place."""
    found = []
    for number, source in enumerate(sources):
        if number != base:
            source -= sources[base]
            found.append(source)
    return found


def _merged(changes: list[NDArray[Any]], election: Election) -> NDArray[Any]:
    """The changes of the elected sign, added up or averaged."""
    first, *others = changes
    kind = first.dtype.type
    votes = np.sign(first) if election.count else first.copy()
    for change in others:
        votes += np.sign(change) if election.count else change
    positive = votes >= 0
    total = np.zeros_like(first)
    divisor = np.zeros_like(first)
    for change, weight in zip(changes, election.weights, strict=True):
        # A change of 0 has no sign, and a NaN none either: the sum keeps it for the check of what is written.
        agrees = np.not_equal(change, 0)
        agrees &= np.equal(change > 0, positive)
        total += change * agrees
        divisor += kind(weight) * agrees
    if election.normalize:
        divisor[divisor == 0] = 1
        total /= divisor
    if election.scale != 1:
        total *= kind(election.scale)
    return total
