"""The suite of the door ``schedule``: a function of two numbers, seen at many of them."""

from __future__ import annotations

import math
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.testing.common import PartSuite
from lmgraft.testing.elsewhere import Failed, elsewhere

__all__ = ["ScheduleSuite"]

_LENGTHS = (1, 2, 3, 10, 64, 1000)
_LONG = 10_000_000


class ScheduleSuite(PartSuite):
    """Holds a schedule to the rules of :mod:`lmgraft.seams.schedule`, at runs of 1 to 1000 steps and of ten million."""

    seam = "schedule"

    def behaviour(self, part: Any) -> Any:
        return {str(steps): [part.factor(step, steps) for step in range(steps)] for steps in _LENGTHS}

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_factors_are_sound(self) -> None:
        """a finite number from 0 to 1 at every step of every run, and not 0 throughout"""
        part = self.build()
        for steps in (*_LENGTHS, _LONG):
            shown = range(steps) if steps != _LONG else (0, 1, 1000, steps // 2, steps - 1)
            found = [(step, part.factor(step, steps)) for step in shown]
            wrong = [(step, factor) for step, factor in found if not _sound(factor)]
            self.require(
                not wrong,
                f"{self.name} gives {wrong[0][1] if wrong else ''!r} at step {wrong[0][0] if wrong else ''} of {steps}",
                "a factor is a number from 0 to 1: the optimizer's lr is the peak that it is multiplied with",
                "divide by the highest value; take max(1, ...) in every denominator, a run may have one step",
            )
            self.require(
                steps < 10 or any(factor > 0 for _, factor in found),
                f"{self.name} is 0 throughout a run of {steps} steps",
                "nothing would be learnt",
                "let a warm-up that is longer than the run rise with its steps all the same: (step + 1) / (warmup + 1)",
            )

    def test_pure(self) -> None:
        """a factor depends on step and steps alone, whatever was asked before"""
        part = self.build()
        forward = self.behaviour(part)
        again = {
            str(steps): [part.factor(step, steps) for step in reversed(range(steps))][::-1]
            for steps in reversed(_LENGTHS)
        }
        for steps in _LENGTHS:
            self.require_equal(
                forward[str(steps)],
                again[str(steps)],
                f"{self.name} gives other factors when steps are asked in another order",
                "compute the factor from step and steps, and keep no count: a resumed run begins in the middle",
            )

    def test_extendable_is_true(self) -> None:
        """where it says that it is extendable, a longer run begins as the shorter one"""
        part = self.build()
        said = part.extendable()
        self.require(
            isinstance(said, bool),
            f"extendable() of {self.name} is {said!r}",
            "it says whether a finished run can be trained on with more steps",
            "return True or False",
        )
        if not said:
            return
        for short, long in zip(_LENGTHS, (*_LENGTHS[1:], _LONG), strict=True):
            for step in range(short):
                one, other = part.factor(step, short), part.factor(step, long)
                self.require(
                    one == other,
                    f"{self.name} says that it is extendable and is not",
                    f"step {step} has the factor {one:.6g} in a run of {short} steps and {other:.6g} in one of {long}",
                    "return False from extendable() where the number of steps plays a part",
                )

    def test_needs_no_torch(self) -> None:
        """it is built and asked without torch, in a process of its own"""
        try:
            heavy = elsewhere("lmgraft.testing.schedule:heavy", self.installed.component, self.compose())
        except Failed as error:
            self.require(False, f"{self.name} fails in another process", str(error), f"mend {self.row.module}")
        self.require(
            not heavy,
            f"{self.name} imports {', '.join(heavy)}",
            "a schedule is asked where nothing heavy is loaded, for a plot or a dry run",
            "use the standard library's math",
        )


def heavy(component: Component[Any], config: ComponentConfig) -> list[str]:
    """What a schedule brings along when it is built and asked."""
    import sys

    from lmgraft.registry import build

    build(component, config).factor(0, 10)
    return sorted({"torch", "numpy", "transformers", "scipy"} & set(sys.modules))


def _sound(factor: Any) -> bool:
    return isinstance(factor, float | int) and math.isfinite(factor) and 0 <= factor <= 1 + 1e-9
