"""Plugins written for one version of a door, run by a core that has gone on: nothing breaks, and authors are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broken_distributions import GOOD, KIND, RECIPES, TRACKERS
from command_place import Place
from third_party import Distribution, component, module, pip_install

STATUS = (
    "  note: lmgraft_stage_end's argument status is deprecated since API 2 of the lifecycle door and goes with API 3;"
    " take outcome.status"
)

HEAD = """\
import json
import os

from lmgraft.hookspecs import hookimpl


class Base:
    def __init__(self, config):
        self.file = os.environ["DIARY"] + "." + type(self).__name__

    def write(self, *words):
        with open(self.file, "a") as file:
            print(*words, file=file)


"""

#: Every hook with every argument that it had in API 1.
ONE = """\
class One(Base):
    @hookimpl
    def lmgraft_run_start(self, run):
        self.write("run_start", run.recipe)

    @hookimpl
    def lmgraft_stage_start(self, run, stage):
        self.write("stage_start", stage)

    @hookimpl
    def lmgraft_step(self, run, stage, row):
        self.write("step", stage, row["stage"])

    @hookimpl
    def lmgraft_checkpoint(self, run, stage, step, path):
        self.write("checkpoint", stage)

    @hookimpl
    def lmgraft_stage_end(self, run, stage, status):
        self.write("stage_end", run.recipe, stage, status)

    @hookimpl
    def lmgraft_run_end(self, run, status):
        self.write("run_end", status)
"""

#: API 2: the outcome, and what a tracker does with it.
TWO = """\
class Two(Base):
    @hookimpl
    def lmgraft_stage_end(self, stage, outcome):
        files = sorted(place.name for place in outcome.artifact.iterdir()) if outcome.artifact else []
        known = {"stage": stage, "status": outcome.status, "seconds": outcome.seconds, "kind": outcome.kind}
        self.write(json.dumps({**known, "digest": outcome.digest, "files": files}))


class Early(Two):
    pass


class Both(Base):
    @hookimpl
    def lmgraft_stage_end(self, stage, status, outcome):
        self.write(stage, status == outcome.status)
"""


def _trackers(name: str, source: str, **api: int) -> Distribution:
    package = name.replace("-", "_")
    parts = [
        component(part, f"{package}.impl:{part.title()}", **({"api": number} if number else {}))
        for part, number in api.items()
    ]
    files = {f"{package}/__init__.py": "", f"{package}/plugin.py": module("lifecycle", *parts)}
    files[f"{package}/impl.py"] = HEAD + source
    return Distribution(name, files, {"lifecycle": dict.fromkeys(api, f"{package}.plugin")}, requires=["lmgraft>=0.1"])


#: No ``api`` is said: that is 1. ``early`` takes what came with 2 and says 1; ``both`` says 2 and takes what will go.
DISTRIBUTIONS = [
    GOOD, KIND, RECIPES, TRACKERS, _trackers("api-one", ONE, one=0), _trackers("api-two", TWO, two=2, early=1, both=2),
]  # fmt: skip


@pytest.fixture(scope="session")
def ages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ages")
    pip_install([distribution.wheel(root) for distribution in DISTRIBUTIONS], target=root / "site")
    return root / "site"


@pytest.fixture
def place(ages: Path, tmp_path: Path) -> Place:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("One line of text.\n", encoding="utf-8")
    return Place(tmp_path, site=ages)


def run(place: Place, *trackers: str, to: str = "out", code: int = 0, **env: str) -> str:
    """Runs a recipe of two stages with these trackers; what was said on the error stream."""
    command = ["run", "one_text", f"lifecycle=[{','.join(trackers)}]", "store.dir=store", f"run.dir={to}"]
    return place(*command, code=code, DIARY=str(place / "diary"), **env).stderr


def heard(place: Place, name: str) -> list[str]:
    return (place / f"diary.{name}").read_text().splitlines()


def test_a_plugin_of_api_1_is_told_all_it_was_told_before_the_argument_was_added(place):
    run(place, "one", "two")
    assert heard(place, "One") == [
        "run_start one_text",
        "stage_start corpus",
        "stage_end one_text corpus ran",
        "stage_start count",
        "step count count",
        "stage_end one_text count ran",
        "run_end done",
    ]


def test_a_plugin_of_api_2_gets_what_it_needs_to_log_an_artifact(place):
    run(place, "two")
    run(place, "two", to="again")
    told = [json.loads(line) for line in heard(place, "Two")]
    stages = json.loads((place / "out/run.json").read_text())["stages"]
    assert [(row["stage"], row["status"], row["kind"]) for row in told] == [
        ("corpus", "ran", "corpus"),
        ("count", "ran", "letters"),
        ("corpus", "reused", "corpus"),
        ("count", "reused", "letters"),
    ]
    assert told[1]["files"] == ["letters.json"]
    assert [row["digest"] for row in told] == [stages[name]["digest"] for name in ("corpus", "count")] * 2
    assert [row["seconds"] for row in told[:2]] == [stages[name]["seconds"] for name in ("corpus", "count")]


def test_both_are_told_of_a_stage_that_failed(place):
    (place / "text/a.txt").write_bytes(b"\xff\xfe no text")
    run(place, "one", "two", code=2)
    assert heard(place, "One")[-2:] == ["stage_end one_text corpus failed", "run_end failed"]
    (told,) = [json.loads(line) for line in heard(place, "Two")]
    assert told.pop("seconds") >= 0
    assert told == {"stage": "corpus", "status": "failed", "kind": "corpus", "digest": "", "files": []}


@pytest.mark.parametrize("said", ["always", "error::DeprecationWarning"])
def test_no_user_is_warned_of_what_is_an_authors_affair(place, said):
    quiet = run(place, "one", "both", "diary", PYTHONWARNINGS=said)
    assert "is deprecated since" not in quiet
    assert "ArgumentDeprecated" not in quiet
    assert "left alone" not in quiet
    assert heard(place, "Both") == ["corpus True", "count True"]


def test_why_tells_the_author(place):
    assert place("plugins", "why", "api-one").stdout.splitlines() == [
        "lifecycle one: ok",
        STATUS,
        "api-one 1.0: 1 part, 0 not usable",
    ]
    both, note, early, newer, two, last = place("plugins", "why", "api-two").stdout.splitlines()
    assert (both, note) == ("lifecycle both: ok", STATUS)
    assert early == "lifecycle early: ok"
    assert newer.endswith("say api=2 in its Component")
    assert (two, last) == ("lifecycle two: ok", "api-two 1.0: 3 parts, 0 not usable")


def test_our_own_tracker_has_gone_along(place):
    lines = place("plugins", "why", "lmgraft").stdout.splitlines()
    assert "lifecycle wandb: ok" in lines
    assert not [line for line in lines if "note:" in line]
