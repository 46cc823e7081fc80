"""Trackers: told everything in order, never in the run's way, and named where they fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lmgraft import lifecycle
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import UserError
from lmgraft.hookspecs import LIFECYCLE, hookimpl
from lmgraft.lifecycle import Lifecycle
from lmgraft.recipe import PartUse
from lmgraft.registry import Installed
from lmgraft.seams.lifecycle import RunInfo, StageOutcome
from lmgraft.table import Row
from third_party import Distribution

RUN = RunInfo("tiny", Path("runs/tiny"), 0)
RAN = StageOutcome("ran", 1.5, "model", Path("store/x"), "0123")
#: One event of each kind, as a run tells them.
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("run_start", {"run": RUN}),
    ("stage_start", {"run": RUN, "stage": "pretrain"}),
    ("step", {"run": RUN, "stage": "pretrain", "row": {"step": 1, "loss": 2.5}}),
    ("checkpoint", {"run": RUN, "stage": "pretrain", "step": 1, "path": Path("x")}),
    ("stage_end", {"run": RUN, "stage": "pretrain", "status": "ran", "outcome": RAN}),
    ("run_end", {"run": RUN, "status": "done"}),
]


class Recorder:
    """Implements every hook, and remembers on which thread it was called."""

    def __init__(self, config: ComponentConfig) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.threads: set[threading.Thread] = set()

    def _note(self, hook: str, **arguments: Any) -> None:
        self.events.append((hook, arguments))
        self.threads.add(threading.current_thread())

    @hookimpl
    def lmgraft_run_start(self, run: RunInfo) -> None:
        self._note("run_start", run=run)

    @hookimpl
    def lmgraft_stage_start(self, run: RunInfo, stage: str) -> None:
        self._note("stage_start", run=run, stage=stage)

    @hookimpl
    def lmgraft_step(self, run: RunInfo, stage: str, row: dict[str, Any]) -> None:
        self._note("step", run=run, stage=stage, row=row)

    @hookimpl
    def lmgraft_checkpoint(self, run: RunInfo, stage: str, step: int, path: Path) -> None:
        self._note("checkpoint", run=run, stage=stage, step=step, path=path)

    @hookimpl
    def lmgraft_stage_end(self, run: RunInfo, stage: str, status: str, outcome: StageOutcome) -> None:
        self._note("stage_end", run=run, stage=stage, status=status, outcome=outcome)

    @hookimpl
    def lmgraft_run_end(self, run: RunInfo, status: str) -> None:
        self._note("run_end", run=run, status=status)


@dataclass
class Trackers:
    """Makes parts of classes in this file, as if distributions had brought them, and keeps what was built."""

    install: Callable[[Distribution], Any]
    said: list[str] = field(default_factory=list)
    built: dict[str, Any] = field(default_factory=dict)

    def start(self, **classes: Callable[[ComponentConfig], Any]) -> Lifecycle:
        self.install(Distribution("trackers", {"given_trackers.py": "given = {}\n"}))
        import given_trackers

        for name, kind in classes.items():
            setattr(given_trackers, name, self._keeping(name, kind))
        return Lifecycle([self._part(name) for name in classes], self.said.append)

    def _keeping(self, name: str, kind: Callable[[ComponentConfig], Any]) -> Callable[[ComponentConfig], Any]:
        def build(config: ComponentConfig) -> Any:
            self.built[name] = kind(config)
            return self.built[name]

        return build

    @staticmethod
    def _part(name: str) -> PartUse:
        component = Component(name=name, target=f"given_trackers:{name}", config=ComponentConfig, summary="")
        row = Row("lifecycle", name, f"dist-of-{name}", "1.2", "given_trackers", "unchecked")
        config = ComponentConfig(part=name)
        return PartUse(f"lifecycle.{name}", f"lifecycle.{name}", "lifecycle", Installed(row, component), config)


@pytest.fixture
def trackers(site):
    return Trackers(site.install)


def tell_all(told: Lifecycle) -> None:
    for hook, arguments in EVENTS:
        told.tell(hook, **arguments)


def test_a_tracker_hears_everything_in_order_on_a_thread_of_its_own(trackers):
    told = trackers.start(one=Recorder, two=Recorder)
    tell_all(told)
    told.close()
    assert [hook for hook, _ in EVENTS] == list(LIFECYCLE)
    for name in ("one", "two"):
        assert trackers.built[name].events == EVENTS
        assert len(trackers.built[name].threads) == 1
        assert threading.current_thread() not in trackers.built[name].threads
    assert trackers.built["one"].threads != trackers.built["two"].threads
    assert trackers.said == []


def test_without_trackers_nothing_happens():
    told = Lifecycle((), pytest.fail)
    tell_all(told)
    told.close()


@pytest.mark.parametrize("error", [ValueError("no network"), SystemExit("no network")])
def test_one_that_raises_is_reported_once_and_left_alone_and_the_others_go_on(trackers, error):
    class Failing(Recorder):
        @hookimpl
        def lmgraft_stage_start(self, run: RunInfo, stage: str) -> None:
            raise error

    told = trackers.start(failing=Failing, good=Recorder)
    tell_all(told)
    told.close()
    assert trackers.said == [
        "tracker failing of dist-of-failing 1.2 failed at stage_start and is left alone:"
        f" {type(error).__name__}: no network"
    ]
    assert [hook for hook, _ in trackers.built["failing"].events] == ["run_start"]
    assert trackers.built["good"].events == EVENTS


class Held(Recorder):
    """Waits in its first event until it is let go: as slow as slow can be, without a clock."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config)
        self.begun, self.go = threading.Event(), threading.Event()

    @hookimpl
    def lmgraft_run_start(self, run: RunInfo) -> None:
        self.begun.set()
        self.go.wait(60)


def test_a_slow_one_blocks_nothing_and_its_lost_rows_are_counted(trackers, monkeypatch):
    monkeypatch.setattr(lifecycle, "QUEUE", 8)
    told = trackers.start(slow=Held, quick=Recorder)
    slow = trackers.built["slow"]
    told.tell("run_start", run=RUN)
    assert slow.begun.wait(60)
    for step in range(20):  # each tell returns although the tracker stands still
        told.tell("step", run=RUN, stage="pretrain", row={"step": step})
    told.tell("stage_end", run=RUN, stage="pretrain", status="ran", outcome=RAN)
    told.tell("run_end", run=RUN, status="done")
    slow.go.set()
    told.close()
    # The rows that fitted, and the run's end in any case.
    assert [arguments["row"]["step"] for hook, arguments in slow.events if hook == "step"] == list(range(8))
    assert [hook for hook, _ in slow.events[-2:]] == ["stage_end", "run_end"]
    assert trackers.said[0] == "tracker slow of dist-of-slow 1.2 was too slow; 12 events were not shown to it"
    assert trackers.built["quick"].events[-1][0] == "run_end"


def test_the_end_of_a_run_waits_only_so_long_for_all_of_them_together(trackers, monkeypatch):
    monkeypatch.setattr(lifecycle, "PATIENCE", 0.05)
    told = trackers.start(slow=Held, slower=Held)
    tell_all(told)
    told.close()
    assert trackers.said == [
        f"tracker {name} of dist-of-{name} 1.2 did not finish within 0 s" for name in ("slow", "slower")
    ]
    for name in ("slow", "slower"):
        trackers.built[name].go.set()


class Misspelt:
    def __init__(self, config: ComponentConfig) -> None:
        pass

    @hookimpl
    def lmgraft_run_started(self, run: RunInfo) -> None:
        raise AssertionError


class WrongArguments:
    def __init__(self, config: ComponentConfig) -> None:
        pass

    @hookimpl
    def lmgraft_step(self, run: RunInfo, metrics: dict[str, Any]) -> None:
        raise AssertionError


class Unmarked:
    def __init__(self, config: ComponentConfig) -> None:
        pass

    def lmgraft_step(self, run: RunInfo, stage: str, row: dict[str, Any]) -> None:
        raise AssertionError


class NoLogin:
    def __init__(self, config: ComponentConfig) -> None:
        raise ConnectionError("no key for the service")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (Misspelt, "there is no hook lmgraft_run_started; did you mean lmgraft_run_start?"),
        (WrongArguments, "the hook lmgraft_step has no argument metrics; it has run, stage, row"),
        (Unmarked, "it implements none of lmgraft_run_start, "),
        (NoLogin, "it raised ConnectionError: no key for the service"),
    ],
)
def test_one_that_cannot_be_set_up_is_an_error_before_anything_is_told(trackers, kind, cause):
    with pytest.raises(UserError) as caught:
        trackers.start(good=Recorder, bad=kind)
    (problem,) = caught.value.problems
    assert problem.fact == "lifecycle.bad: the tracker bad of dist-of-bad 1.2 cannot be set up"
    assert cause in problem.cause
    assert problem.remedy == "mend given_trackers:bad, or take lifecycle.bad out of the recipe"
    assert trackers.built["good"].events == []
    assert not [thread for thread in threading.enumerate() if thread.name in ("tracker-good", "tracker-bad")]
