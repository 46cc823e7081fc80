"""SIGKILL at fifty and more points of a run, over all stages: what comes out is what an undisturbed run makes.

Most of the kills come before a call into the file system that is drawn at random (a rename, an fsync, a new folder),
which is where half-written work would show; the others come at any moment. After each, the store is read whole.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lmgraft.store import Store
from tiny_recipe import STAGES, digests, metrics, run_json, write_recipe
from warm_cli import WarmCli

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

KILLS = 50
SEED = 20_260_101
#: Kills that aim at each stage before a store is left to reach its end.
EACH = 2


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run left alone: what it made, and how long its stages took, in seconds and in calls into the file system."""

    recipe: Path
    seconds: dict[str, float]
    calls: dict[str, int]
    keys: dict[str, str]
    digests: dict[str, str]
    metrics: list[dict[str, Any]]


@dataclass(slots=True)
class Broken:
    """One store and one run directory, and the kills that they went through."""

    cli: WarmCli
    truth: Undisturbed
    folder: Path
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def attempt(self, aim: dict[str, Any] | None = None) -> bool:
        """The command, killed as the aim says. True where it reached its end."""
        args = ["run", self.truth.recipe, f"store.dir={self.folder / 'store'}", f"run.dir={self.run}", "-q"]
        done = self.cli(args, self.truth.recipe.parent, **({"aim": aim} if aim else {}))
        assert done.code in (0, -9), done.err
        self.look()
        if done.code:
            self.kills[self.stage()] += 1
        return done.code == 0

    def stage(self) -> str:
        """Where the kill struck; empty between two stages."""
        stages = run_json(self.run)["stages"]  # readable at any time
        return next((name for name, facts in stages.items() if facts["status"] == "running"), "")

    def look(self) -> None:
        """Nothing that can be found is half-written: neither in the store nor behind the run's links."""
        store = Store(self.folder / "store")
        assert store.verify() == []
        for name, key in self.truth.keys.items():
            record = store.lookup(key)
            assert record is None or record.digest == self.truth.digests[name], name
        for link in (self.run / "stages").iterdir():
            assert link.resolve().is_dir(), link
            assert self.truth.digests[link.name] in str(link.resolve())


@pytest.fixture(scope="module")
def truth(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(folder)
    cli(["run", recipe, "store.dir=store", "run.dir=run"], folder, aim={"calls": str(folder / "calls")}).check()
    stages = run_json(folder / "run")["stages"]
    return Undisturbed(
        recipe,
        {name: facts["seconds"] for name, facts in stages.items()},
        json.loads((folder / "calls").read_text()),
        {name: facts["key"] for name, facts in stages.items()},
        digests(folder / "run"),
        metrics(folder / "run"),
    )


def test_killed_at_fifty_points_over_all_stages_it_ends_as_if_left_alone(
    cli: WarmCli, truth: Undisturbed, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    kills: Counter[str] = Counter()
    for number in range(12):
        broken = Broken(cli, truth, tmp_path / str(number), kills)
        for stage in STAGES:
            for _ in range(EACH):
                broken.attempt(_aim(rng, truth, stage))
        assert broken.attempt()
        assert digests(broken.run) == truth.digests
        assert metrics(broken.run) == truth.metrics
        assert run_json(broken.run)["status"] == "done"
        shutil.rmtree(broken.folder)
        if sum(kills[stage] for stage in STAGES) >= KILLS:
            break
    assert sum(kills[stage] for stage in STAGES) >= KILLS, kills
    assert all(kills[stage] for stage in STAGES), kills


def _aim(rng: random.Random, truth: Undisturbed, stage: str) -> dict[str, Any]:
    """Where a stage has ended by then, the kill strikes one of the next."""
    if rng.random() < 0.7:
        return {"stage": stage, "call": rng.randint(1, truth.calls[stage])}
    return {"stage": stage, "seconds": rng.uniform(0.0, truth.seconds[stage])}
