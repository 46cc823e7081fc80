"""The suite of trackers sees what is wrong, and says so by the right check."""

from __future__ import annotations

import pytest
from lmgraft.hookspecs import LIFECYCLE
from lmgraft.testing import LifecycleSuite, Nonconforming
from third_party import Distribution, component, module

DIARY = """\
import json
import os
import time
from pathlib import Path

from lmgraft.hookspecs import hookimpl


class Diary:
    def __init__(self, config):
        self.size = config.size

    def write(self, run, word, told):
        with open(run.dir / "diary.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps([word, told], default=str) + "\\n")

    @hookimpl
    def lmgraft_run_start(self, run):
        self.write(run, "begins", dict(run.config))

    @hookimpl
    def lmgraft_stage_start(self, run, stage):
        self.write(run, "stage", stage)

    @hookimpl
    def lmgraft_step(self, run, stage, row):
        self.write(run, stage, dict(row))

    @hookimpl
    def lmgraft_checkpoint(self, run, stage, step, path):
        self.write(run, stage, step)

    @hookimpl
    def lmgraft_stage_end(self, run, stage, status):
        self.write(run, stage, status)

    @hookimpl
    def lmgraft_run_end(self, run, status):
        self.write(run, "ends", status)
"""
STEP, START = "self.write(run, stage, dict(row))", 'self.write(run, "begins", dict(run.config))'
SAVED = "self.write(run, stage, step)"
WHOLE, ROWS, ENDS = "test_hears_of_a_whole_run", "test_rows_of_every_kind", "test_runs_that_fail_or_stop"
AGAIN, SOON, REAL = (
    "test_a_second_run_in_the_same_directory",
    "test_finishes_promptly",
    "test_a_real_run_is_none_the_worse",
)

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("self, run, stage, step, path", "self, run, stage, step, folder", WHOLE, "has no argument folder"),
    ("lmgraft_checkpoint", "lmgraft_saved", WHOLE, "there is no hook lmgraft_saved"),
    (SAVED, "self.write(run, stage, step.loss)", WHOLE, "failed at checkpoint"),
    (STEP, "row['seen'] = True", WHOLE, "changes what it is told"),
    (SAVED, "(path.parent / 'artifact' / 'log').write_text('x')", WHOLE, "changes an artifact"),
    (STEP, "self.write(run, stage, f\"{row['step']:.1f}\")", ROWS, r"the row \{\}"),
    (STEP, "self.write(run, stage, {k: float(v) for k, v in row.items() if k != 'stage'})", ROWS, "'tokens': 11805"),
    (STEP, "self.write(run, stage, int(row.get('loss', 0)))", ROWS, "nan"),
    ('self.write(run, "ends", status)', "assert status == 'done'", ENDS, "stopped before its first stage"),
    ("run, stage, status)\n\n", "run, stage, {'ran': 1, 'reused': 0}[status])\n\n", ENDS, "failed in a stage"),
    (START, "(run.dir / 'mine').mkdir()", AGAIN, "a second run"),
    (STEP, "time.sleep(0.02)", SOON, "200 rows"),
    ('self.write(run, "ends", status)', "run.dir.joinpath('metrics.jsonl').read_text()[10**6]", REAL, "in a real run"),
    (START, "self.write(run, 'begins', dict(os.environ))", "test_no_secret_is_kept", "diary.jsonl"),
    (START, "Path('diary').write_text('x')", "test_no_stray_writes", "diary"),
    ("self.size = config.size", "config.size += 1", "test_config_unchanged_by_use", "size"),
]  # fmt: skip


@pytest.fixture
def suite(site):
    made = []

    def install(source: str) -> LifecycleSuite:
        light = module("lifecycle", component("diary", "diary_keeper.part:Diary"))
        files = {"diary_keeper/__init__.py": "", "diary_keeper/plugin.py": light, "diary_keeper/part.py": source}
        site.install(Distribution("diary-keeper", files, {"lifecycle": {"diary": "diary_keeper.plugin"}}))
        made.append(type("TestDiary", (LifecycleSuite,), {"component": "diary"})())
        made[-1].setup_method()
        return made[-1]

    yield install
    for one in made:
        one.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{check}-{word}" for *_, check, word in WRONG]
)
def test_a_wrong_tracker_is_seen(suite, right, wrong, check, word):
    assert DIARY.count(right) == 1
    with pytest.raises(Nonconforming, match=word):
        getattr(suite(DIARY.replace(right, wrong)), check)()


@pytest.mark.parametrize("check", sorted({check for *_, check, _ in WRONG}))
def test_a_right_one_passes(suite, check):
    getattr(suite(DIARY), check)()


def test_a_tracker_that_does_nothing_is_seen_and_one_that_remembers_is_not(suite):
    hooks = "".join(f"    @hookimpl\n    def lmgraft_{hook}(self): BODY\n\n" for hook in ("run_start", "run_end"))
    source = DIARY.partition("    def write")[0] + hooks
    with pytest.raises(Nonconforming, match="does nothing"):
        suite(source.replace("BODY", "pass")).test_does_something()
    suite(source.replace("BODY", "self.size += 1")).test_does_something()
    suite(DIARY).test_does_something()


def test_every_hook_of_the_specification_is_called_with_all_that_it_has(suite):
    one = suite(DIARY)
    assert one.behaviour(one.build()) == sorted(f"lmgraft_{hook}" for hook in LIFECYCLE)
    from lmgraft.testing.lifecycle import _arguments

    for hook, values in one._whole_run(one.folder / "told" / "run"):
        assert None not in _arguments(hook, values).values(), f"lifecycle.py of the kit gives {hook} no value"
