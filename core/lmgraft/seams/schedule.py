"""Door ``schedule``: how the learning rate moves. Beside ``objective``.

Rules
- A pure function of step and steps; torch is not needed.
- ``extendable()`` is true where a longer run begins as the shorter one did (constant, warm-up-stable-decay).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Schedule"]


@runtime_checkable
class Schedule(Protocol):
    """The part: a factor for every step."""

    def factor(self, step: int, steps: int) -> float:
        """What the peak learning rate is multiplied with at ``step`` (0 .. ``steps`` - 1); finite, at least 0."""
        ...

    def extendable(self) -> bool:
        """Whether ``factor(step, steps)`` is the same for every ``steps`` above ``step``."""
        ...
