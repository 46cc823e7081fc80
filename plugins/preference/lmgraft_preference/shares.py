"""Shares of won comparisons: ties count half, with Wilson's interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Tally", "wilson"]

#: The standard normal quantile of a two-sided 95% interval.
Z95 = 1.959963984540054


def wilson(won: float, count: int, z: float = Z95) -> tuple[float, float]:
    """(low, high) of the share ``won / count`` (Wilson 1927, JASA 22:209; without continuity correction).

    ``won`` may end in a half, for ties; the interval is then a little wide, since a tie varies less than a win.
    """
    share = won / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass
class Tally:
    """Comparisons of a chosen answer with a rejected one: the higher number wins."""

    won: int = 0
    tied: int = 0
    count: int = 0

    def add(self, chosen: float, rejected: float) -> None:
        self.count += 1
        self.won += chosen > rejected
        self.tied += chosen == rejected

    @property
    def share(self) -> float:
        return (self.won + self.tied / 2) / self.count

    def interval(self) -> tuple[float, float]:
        return wilson(self.won + self.tied / 2, self.count)
