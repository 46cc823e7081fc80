"""The suite of schedules sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import Nonconforming, NotApplicable, ScheduleSuite
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

STABLE = """\
import math


class Part:
    def __init__(self, config):
        self.calls = 0

    def factor(self, step, steps):
        self.calls += 1
        warmup = 8
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 1 / math.sqrt(1 + (step - warmup) / 100)

    def extendable(self):
        return True
"""
SOUND, PURE = "test_factors_are_sound", "test_pure"
TRUE, TORCH = "test_extendable_is_true", "test_needs_no_torch"
LAST = "return 1 / math.sqrt(1 + (step - warmup) / 100)"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    (LAST, "return math.nan", SOUND, "nan at step 8 of 10"),
    (LAST, "return 1.1", SOUND, "1.1 at step 8"),
    (LAST, "return -0.01", SOUND, "-0.01"),
    (LAST, "return '1'", SOUND, "'1'"),
    ("        warmup = 8", "        return 0.0\n        warmup = 8", SOUND, "0 throughout a run of 10 steps"),
    (LAST, "return 1 / self.calls", PURE, "asked in another order"),
    (LAST, "return 1 - step / steps", TRUE, "says that it is extendable and is not"),
    ("return True", "return 1", TRUE, "extendable\\(\\) of"),
    ("import math", "import math, torch", TORCH, "imports numpy, torch"),
]


@contextmanager
def suite(site, source: str) -> Iterator[ScheduleSuite]:
    files = {
        "wrong_schedule/__init__.py": "",
        "wrong_schedule/plugin.py": module("schedule", component("wrong_schedule", "wrong_schedule.part:Part")),
        "wrong_schedule/part.py": source,
    }
    parts = {"schedule": {"wrong_schedule": "wrong_schedule.plugin"}}
    site.install(Distribution("wrong-schedule", files, parts, requires=["lmgraft<99"]))
    found = type("TestWrong", (ScheduleSuite,), {"component": "wrong_schedule"})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{word}: {check}" for *_, check, word in WRONG]
)
def test_a_wrong_schedule_is_seen(site, right, wrong, check, word):
    assert right in STABLE
    with suite(site, STABLE.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_a_right_schedule_passes(site):
    passed = []
    with suite(site, STABLE) as one:
        for check in checks_of(type(one)):
            one.teardown_method()
            one.setup_method()
            try:
                getattr(one, check)()
                passed.append(check)
            except NotApplicable:
                pass
    assert {SOUND, PURE, TRUE, TORCH} <= set(passed)


def test_a_schedule_that_does_not_claim_to_be_extendable_need_not_be(site):
    source = STABLE.replace(LAST, "return 1 - step / steps").replace("return True", "return False")
    with suite(site, source) as one:
        one.test_extendable_is_true()
