"""The suite of the door ``lifecycle``: trackers are told of runs as core tells them, and of some odd ones."""

from __future__ import annotations

import copy
import inspect
import io
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar
from unittest.mock import patch

from omegaconf import OmegaConf

from lmgraft import compose, hooks, hookspecs, manifest, secrets
from lmgraft import recipe as recipes
from lmgraft.console import Console
from lmgraft.errors import UserError
from lmgraft.hookspecs import LIFECYCLE
from lmgraft.lifecycle import PATIENCE, Lifecycle
from lmgraft.recipe import Recipe
from lmgraft.runner import Runner
from lmgraft.seams.lifecycle import RunInfo, StageOutcome
from lmgraft.stages.plugin import CorpusStage
from lmgraft.testing.common import PartSuite
from lmgraft.testing.models import contents, unused
from lmgraft.testing.outcome import Nonconforming
from lmgraft.testing.scenes import CHECKED, scene, write_texts

__all__ = ["LifecycleSuite"]

_SECRET_NAME, _SECRET = "LMGRAFT_KIT_TOKEN", "kit-secret-5f2b9c11aa"
#: What a row may hold: everything that JSON can, and the floats that it cannot.
_ODD_ROWS: tuple[dict[str, Any], ...] = (
    {},
    {"step": 1, "loss": float("nan"), "norm": float("inf"), "low": float("-inf")},
    {"step": 2, "tokens": 2**70, "tiny": 5e-324, "sure": True, "nothing": None},
    {"step": 2, "loss": 1.0},
    {"step": 1, "loss": 1.0},
    {"step": 2.5, "split": "validation", "loss": 0.0},
    {
        "text": "na\u00efve \U0001f468\u200d\U0001f469\u200d\U0001f467 \u0000 \u2028",
        "": "",
        "a/b.c d": 1,
        "caf\u00e9": 2,
    },
    {"nested": {"deep": [1, {"deeper": []}], "loss": 0.5}, "list": [0.1, None, "x"], "long": "x" * 10_000},
    {"reused": True, "step": "three", "loss": "1.0"},
    {f"column {number}": number for number in range(300)},
)

Event = tuple[str, dict[str, Any]]


class LifecycleSuite(PartSuite):
    """Holds a tracker to the rules of :mod:`lmgraft.seams.lifecycle`.

    ``seconds`` is what it may take for a short run once its libraries are imported.
    """

    seam = "lifecycle"
    seconds: ClassVar[float] = 2.0

    def behaviour(self, part: Any) -> Any:
        """Which hooks it heard; what trackers keep holds times and random names, and is not compared."""
        manager = hooks.manager()
        hooks.register(manager, part, self.component)
        for hook, values in self._whole_run(unused(self.folder, "run")):
            getattr(manager.hook, f"lmgraft_{hook}")(**_arguments(hook, values))
        return sorted(caller.name for caller in manager.get_hookcallers(part) or [])

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_hears_of_a_whole_run(self) -> None:
        """every hook that it implements is called, with what a run gives, and none raises"""
        folder = unused(self.folder, "run")
        events = self._whole_run(folder)
        before, artifacts = copy.deepcopy(events), contents(folder.parent / "artifact")
        self._told(folder, events)
        self.require(
            events == before,
            f"{self.name} changes what it is told",
            "other trackers are told of the same row and the same run",
            "copy a row before you change it: dict(row)",
        )
        self.require(
            contents(folder.parent / "artifact") == artifacts,
            f"{self.name} changes an artifact",
            "outcome.artifact is in the store, and other runs share it",
            "read it, or copy it below run.dir",
        )

    def test_does_something(self) -> None:
        """what it is told leads to something: a hook calls something, or the tracker remembers"""
        part = self.build()
        manager = hooks.manager()
        hooks.register(manager, part, self.component)
        own = {getattr(getattr(part, name), "__code__", None) for name in hooks.HEARD if hasattr(part, name)}
        called: list[str] = []

        def profile(frame: FrameType, event: str, _: Any) -> None:
            by = frame if event == "c_call" else frame.f_back
            if event in ("call", "c_call") and by is not None and by.f_code in own:
                called.append(by.f_code.co_name)

        before, kept = _held(part), sys.getprofile()
        events = self._whole_run(unused(self.folder, "run"))
        sys.setprofile(profile)
        try:
            for hook, values in events:
                getattr(manager.hook, f"lmgraft_{hook}")(**_arguments(hook, values))
        finally:
            sys.setprofile(kept)
        self.require(
            bool(called) or _held(part) != before,
            f"{self.name} does nothing with what it is told",
            "a whole run was told, and no hook called anything or changed the tracker",
            "write, send or remember what comes",
        )

    def test_rows_of_every_kind(self) -> None:
        """rows may hold anything: numbers that are not finite, text, nested values, no step, a step that was there"""
        start, *_, end = self._whole_run(unused(self.folder, "run"))
        rows = [("step", {**end[1], "stage": "pretrain", "row": dict(row)}) for row in _ODD_ROWS]
        try:
            self._told(unused(self.folder, "run"), [start, *rows, end])
        except Nonconforming:
            for row in rows:  # by which of them
                self._told(unused(self.folder, "run"), [start, row, end], f"the row {row[1]['row']!r:.80}")
            raise

    def test_runs_that_fail_or_stop(self) -> None:
        """a run may end anywhere: before its first stage, in a stage, between two"""
        started, begun, row, *_ = whole = self._whole_run(unused(self.folder, "run"))
        ended = next(values for hook, values in whole if hook == "stage_end")
        failed = ("stage_end", {**ended, "status": "failed", "outcome": StageOutcome("failed", 0.5, "model")})
        for status, told in {
            "stopped before its first stage": [started],
            "failed in a stage": [started, begun, row, failed],
            "stopped between two stages": [started, begun, ("stage_end", ended)],
        }.items():
            end = ("run_end", {**whole[-1][1], "status": status.partition(" ")[0]})
            self._told(unused(self.folder, "run"), [*told, end], f"a run that {status}")

    def test_a_second_run_in_the_same_directory(self) -> None:
        """a run that is started again in its directory is told as well as the first"""
        folder = unused(self.folder, "run")
        events = self._whole_run(folder)
        self._told(folder, [*events[:3], ("run_end", {**events[-1][1], "status": "stopped"})])
        self._told(folder, events, "a second run in the same directory")

    def test_finishes_promptly(self) -> None:
        """a short run is over soon after its last row"""
        self._told(warm := unused(self.folder, "run"), self._whole_run(warm))
        folder = unused(self.folder, "run")
        events = self._whole_run(folder)
        rows = [("step", {**events[2][1], "row": {"step": step, "loss": 1 / step}}) for step in range(1, 201)]
        start = time.monotonic()
        self._told(folder, [*events[:2], *rows, *events[3:]])
        took = time.monotonic() - start
        self.require(
            took <= self.seconds,
            f"{self.name} takes {took:.1f} s for a run of 200 rows",
            f"the end of every run waits for it; after {PATIENCE:.0f} s, for all trackers together, core goes on and "
            "what is not written is lost",
            "gather rows and send them together, send in the background, and bound what run_end waits for; where it "
            f"must take longer, seconds = {took + 1:.0f} in the suite",
        )

    def test_a_real_run_is_none_the_worse(self) -> None:
        """a real run with it ends as done, and nothing is said of it"""
        said = io.StringIO()
        status = self._real_run(said)
        failures = [line for line in said.getvalue().splitlines() if line.startswith("tracker ")]
        self.require(
            not failures and status == "done",
            f"{self.name} fails in a real run",
            failures[0] if failures else f"the run is {status}",
            "mend the hook that is named",
        )

    def test_no_secret_is_kept(self) -> None:
        """no secret of the environment ends up in a file"""
        with patch.dict(os.environ, {_SECRET_NAME: _SECRET}):
            self._real_run(io.StringIO())
            held = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and _holds(path, _SECRET)]
        self.require(
            not held,
            f"{self.name} writes a secret to {held[0].name if held else ''}",
            "core masks what it tells; the environment and the command line are not masked",
            "keep run.config, which is masked, and leave os.environ and sys.argv alone",
        )

    # --- what it is told --------------------------------------------------------------------------------------------

    def _told(self, folder: Path, events: Sequence[Event], what: str = "a run") -> None:
        """Tells a tracker of its own, as a run does; fails where core would say that it failed."""
        if not folder.exists():
            self._directory(folder)
        said: list[str] = []
        try:
            lifecycle = Lifecycle(self._recipe().trackers, said.append)
        except UserError as error:
            first = error.problems[0]
            raise Nonconforming(first.fact, first.cause, first.remedy) from error
        for hook, values in events:
            moved = {**values, "run": _moved(values["run"], folder)}
            lifecycle.tell(hook, **_arguments(hook, moved))
        lifecycle.close()
        self.require(
            not said,
            f"{self.name} does not survive {what}",
            "; ".join(said),
            "core leaves it alone for the rest of the run: let it take what it cannot show as text, or leave it out",
        )

    def _whole_run(self, folder: Path) -> list[Event]:
        """The events of a run of two stages in this directory, which is made."""
        run = self._directory(folder)
        artifact, checkpoint = folder.parent / "artifact", folder.parent / "checkpoint-2"
        for place in (artifact, checkpoint):
            place.mkdir()
            (place / "model.safetensors").write_bytes(b"not read by anyone")
        return list(_events(run, StageOutcome("ran", 1.25, "model", artifact, "0" * 64), checkpoint))

    def _directory(self, folder: Path) -> RunInfo:
        """Makes a run directory with its run.json."""
        recipe, store = self._recipe(), self.folder / "store"
        (folder / "stages").mkdir(parents=True)
        written = manifest.Manifest(folder, recipe, source="recipe.yaml", overrides=(), device="cpu", store=store)
        for stage in ("pretrain", "evaluate"):
            written.stage(stage, kind="train", status="ran", key="1" * 64, digest="0" * 64, seconds=1.25)
        return RunInfo(recipe.name, folder, recipe.seed, secrets.masked(recipe.resolved, secrets.known()))

    def _recipe(self) -> Recipe:
        """One stage and this tracker, with a secret in the recipe."""
        texts = self.folder / "texts"
        if not texts.is_dir():
            write_texts(texts)
        made = scene("corpus", CorpusStage, {}, "", self.folder)
        made["defaults"].insert(-1, {"lifecycle@lifecycle": [self.component]})
        made["kit"] = {"folder": str(texts), "access_token": "none"}
        made[CHECKED]["sources"]["files"]["path"] = "${kit.folder}"
        made[CHECKED]["workers"] = 1
        made["lifecycle"] = {self.component: {**self.settings, **self.prepare()}}
        file = self.folder / "recipe.yaml"
        OmegaConf.save(OmegaConf.create(made), file)
        ref = compose.resolve(str(file))
        secret = f"kit.access_token=${{oc.env:{_SECRET_NAME},none}}"  # as on the command line
        return recipes.read(compose.compose(ref, (f"store.dir={self.folder / 'store'}", secret)), ref.name)

    def _real_run(self, said: io.StringIO) -> str:
        runner = Runner(self._recipe(), console=Console(file=said))
        return str(runner.run(unused(self.folder, "run"))["status"])


def _events(run: RunInfo, outcome: StageOutcome, checkpoint: Path) -> Iterator[Event]:
    yield "run_start", {"run": run}
    at: dict[str, Any] = {"run": run, "stage": "pretrain"}
    yield "stage_start", at
    yield "step", {**at, "row": {"stage": "pretrain", "step": 1, "loss": 5.5, "lr": 1e-3, "tokens": 64}}
    yield "step", {**at, "row": {"stage": "pretrain", "step": 2, "loss": 5.25, "split": "validation", "reused": True}}
    yield "checkpoint", {**at, "step": 2, "path": checkpoint}
    yield "stage_end", {**at, "status": outcome.status, "outcome": outcome}
    at = {"run": run, "stage": "evaluate"}
    yield "stage_start", at
    yield "step", {**at, "row": {"stage": "evaluate", "name": "bits_per_byte", "value": 2.5, "split": "validation"}}
    yield "stage_end", {**at, "status": "reused", "outcome": StageOutcome("reused", 0.0, "scores", outcome.artifact)}
    yield "run_end", {"run": run, "status": "done"}


def _arguments(hook: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What this core's specification has, of what the kit knows."""
    assert hook in LIFECYCLE
    return {name: values.get(name) for name in inspect.signature(getattr(hookspecs, f"lmgraft_{hook}")).parameters}


def _held(part: Any) -> str:
    """What the object holds, in words; enough to see that it remembers something."""
    names = [*getattr(part, "__dict__", {}), *getattr(type(part), "__slots__", ())]
    return repr([getattr(part, name, None) for name in names])


def _moved(run: RunInfo, folder: Path) -> RunInfo:
    return RunInfo(run.recipe, folder, run.seed, run.config)


def _holds(path: Path, word: str) -> bool:
    return word.encode() in path.read_bytes()
