"""One outside distribution for each of the seven seams, written from the docs alone by people with styles of their own:
built as wheels, installed beside lmgraft's own wheel in a fresh environment, and run together in one recipe there."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lmgraft.version import SEAMS
from third_party import build_wheel, lmgraft, pip_install

HERE = Path(__file__).parent / "strangers"
PREFIX = "lmgraft."


@dataclass(frozen=True)
class Stranger:
    """A distribution's folder and what its pyproject promises."""

    folder: Path
    name: str
    parts: dict[str, str]
    """seam -> part"""


def strangers() -> Iterator[Stranger]:
    for file in sorted(HERE.glob("*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        groups = project["entry-points"]
        parts = {
            group.removeprefix(PREFIX): part
            for group, points in groups.items()
            for part in points
            if group.removeprefix(PREFIX) in SEAMS
        }
        yield Stranger(file.parent, project["name"], parts)


ALL = list(strangers())


@pytest.fixture(scope="module")
def strangers_python(fresh_python, tmp_path_factory):
    """The fresh environment with all of them, each built by its own backend from a copy of its folder."""
    root = tmp_path_factory.mktemp("strangers")
    wheels = []
    for stranger in ALL:
        source = shutil.copytree(stranger.folder, root / stranger.name)
        wheels.append(build_wheel(source, root / "dist" / stranger.name))
    pip_install(wheels, python=fresh_python)
    return fresh_python


def test_every_seam_has_a_stranger():
    assert {seam for stranger in ALL for seam in stranger.parts} == set(SEAMS)
    assert len(ALL) == len(SEAMS)


@pytest.mark.slow
@pytest.mark.parametrize("stranger", ALL, ids=lambda stranger: stranger.name)
def test_a_strangers_wheel_keeps_the_contract(stranger, strangers_python, tmp_path):
    here = {"cwd": tmp_path, "python": str(strangers_python)}
    assert "0 not usable" in lmgraft("plugins", "why", stranger.name, **here).stdout
    results = json.loads(lmgraft("plugins", "check", stranger.name, "--json", **here).stdout)
    states = {result["check"]: result["state"] for result in results}
    assert "failed" not in states.values()
    assert states["test_entry_point"] == states["test_equal_builds"] == states["test_version_cap"] == "passed"


@pytest.mark.slow
def test_they_run_together_in_one_recipe(strangers_python, tmp_path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("example_input", HERE / "example_input.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.write(tmp_path / "input")
    shutil.copy(HERE / "recipe.yaml", tmp_path / "strangers.yaml")
    here = {"cwd": tmp_path, "python": str(strangers_python)}
    run = ["run", "strangers.yaml", "data.path=input", "store.dir=store", "device=cpu"]
    done = lmgraft(*run, "run.dir=out", **here)
    assert "evaluate: ran" in done.stderr

    data = json.loads((tmp_path / "out/run.json").read_text())
    assert data["status"] == "done"
    owners = {(part["seam"], part["name"]): part["distribution"] for part in data["components"]}
    for stranger in ALL:
        for seam, part in stranger.parts.items():
            assert owners.get((seam, part)) == stranger.name, (seam, part, owners)
    assert data["scores"]
    funnel = json.loads((tmp_path / "out/stages/corpus/funnel.json").read_text())
    assert "dropped" in json.dumps(funnel)
    losses = [
        row["loss"]
        for row in map(json.loads, (tmp_path / "out/metrics.jsonl").read_text().splitlines())
        if row["stage"] == "pretrain" and "loss" in row
    ]
    assert losses[-1] < losses[0]

    again = lmgraft(*run, "run.dir=again", **here)
    assert "ran" not in again.stderr.replace("strangers", "")
    text = lmgraft("generate", "out", "The", "--max-new-tokens", "8", **here).stdout
    assert text.startswith("The")
