"""Settings of a mixture of sources: weights as in a paper's table, and that table itself, to compare with."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

__all__ = ["Mixture", "PrintedTable"]


@dataclass
class PrintedTable:
    """What a paper prints of its own mixture, set beside what comes out here. It decides nothing."""

    total: float | None = None
    """How much the paper trained on, in the unit of ``sizes``: 300 (billion tokens) in GPT-3's table."""
    sizes: dict[str, float] = field(default_factory=dict)
    """How much of each source the paper had."""
    epochs: dict[str, float] = field(default_factory=dict)
    """How often the paper says it saw each source."""

    def problems(self, weights: Collection[str]) -> Iterator[str]:
        """What is wrong, each beginning with the key."""
        for key, values in (("sizes", self.sizes), ("epochs", self.epochs)):
            for name, value in values.items():
                if name not in weights:
                    yield f"mixture.printed.{key} names {name!r}, which has no weight ({', '.join(weights)})"
                elif not (math.isfinite(value) and value > 0):
                    yield f"mixture.printed.{key}: {name} is {value:g}; it is a positive number"
        if self.total is not None and not (math.isfinite(self.total) and self.total > 0):
            yield f"mixture.printed.total is {self.total:g}; it is a positive number"


@dataclass
class Mixture:
    """How much each source contributes to the training split; without weights every source gives what it has.

    Each source gets its weight's share of the total, to within one document. A source that has more gives a part of
    its documents, in an order of hashes that the seed decides; one that has less is repeated: whole epochs and a part
    of the next one, in the same order. The second copy of the document ``id`` is called ``id~2``, with one tilde more
    where ids of the corpus itself end so. What is held out is held out before, once, and never repeated.
    """

    weights: dict[str, float] = field(default_factory=dict)
    """Source -> weight. They need not add up to 1 or 100: a note says so where they do not, and each counts as its
    share of the sum. A source of weight 0 gives nothing to train on."""
    bytes: int | None = None
    """The total, in bytes of text. With neither ``bytes`` nor ``documents`` it is the most at which no document is
    repeated: what the scarcest source allows."""
    documents: int | None = None
    """The total in documents, which are then what is shared out, instead of bytes."""
    printed: PrintedTable = field(default_factory=PrintedTable)
    """The table of a paper."""

    def problems(self, sources: Collection[str], fallback: Collection[str]) -> Iterator[str]:
        """What is wrong, each beginning with the key; ``fallback`` names sources that need no weight."""
        if not self.weights:
            for key in ("bytes", "documents"):
                if getattr(self, key) is not None:
                    yield f"mixture.{key} is {getattr(self, key)}, and mixture.weights is empty: give each source one"
            return
        yield from self._weights(sources, fallback)
        if self.bytes is not None and self.documents is not None:
            yield "mixture.documents is set beside mixture.bytes; the total is counted in one of the two"
        for key in ("bytes", "documents"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield f"mixture.{key} is {value}; it must be at least 1, or null"
        yield from self.printed.problems(self.weights)

    def _weights(self, sources: Collection[str], fallback: Collection[str]) -> Iterator[str]:
        for name in self.weights:
            if name not in sources:
                yield f"mixture.weights names {name!r}, which is not among the sources ({', '.join(sources)})"
        for name in sources:
            if name not in self.weights and name not in fallback:
                yield f"mixture.weights has no weight for the source {name}; 0 leaves it out"
        wrong = [name for name, weight in self.weights.items() if not (math.isfinite(weight) and weight >= 0)]
        for name in wrong:
            yield f"mixture.weights: {name} is {self.weights[name]:g}; a weight is a number, 0 or more"
        if not wrong and not any(self.weights.values()):
            yield "mixture.weights are all 0; one source at least gives something"
