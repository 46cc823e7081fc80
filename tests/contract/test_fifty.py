"""Fifty distributions installed, five of them broken: all are listed with the right state, and none is imported.

How long it takes stands in ``bench/startup.py``; nothing here looks at a clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_place import Place
from fifty_distributions import BROKEN, FIFTY, RAISING, RECIPE, damage, expected
from lmgraft.version import DOORS, SEAMS
from third_party import pip_install


@pytest.fixture(scope="session")
def fifty_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fifty")
    pip_install([one.wheel(root) for one in FIFTY], target=root / "site")
    damage(root / "site")
    return root / "site"


@pytest.fixture
def fifty(fifty_site: Path, tmp_path: Path) -> Place:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("One line of text.\n", encoding="utf-8")
    return Place(tmp_path, site=fifty_site)


def completed(place: Place, *words: str, **env: str) -> list[str]:
    """What a shell is offered for the last of these words."""
    asked = {"COMP_WORDS": " ".join(["lmgraft", *words]), "COMP_CWORD": str(len(words)), **env}
    asked |= {"PYTHONPATH": str(place.site), "_LMGRAFT_COMPLETE": "bash_complete"}
    code = "from lmgraft.cli import cli; cli.main(prog_name='lmgraft')"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert not done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def imported(place: Place) -> list[str]:
    file = place / "imported"
    return file.read_text().split() if file.exists() else []


def test_the_fifty_are_what_they_are_said_to_be():
    assert len({one.name for one in FIFTY}) == 50
    assert len(BROKEN) == 5
    assert len({reason for _, reason in BROKEN.values()}) == 5
    assert {seam for _, seam, _ in expected()} >= {*SEAMS, *DOORS}
    assert max(sum(len(names) for names in one.parts.values()) for one in FIFTY) >= 5


def test_all_are_listed_with_the_right_state(fifty):
    rows = [row for row in json.loads(fifty("plugins", "list", "--json").stdout) if row["distribution"] != "lmgraft"]
    assert {(row["distribution"], row["seam"], row["name"]): row["state"] for row in rows} == expected()
    for row in rows:
        reason = BROKEN.get(row["distribution"], ("", ""))[1]
        assert row["reason"].startswith(reason)
        assert bool(row["reason"]) == bool(row["remedy"]) == bool(reason)
    table = " ".join(fifty("plugins", "list").stdout.split())
    assert f"{len(expected()) - 1 + count_of_our_own(fifty)} parts" in table
    for name in BROKEN:
        assert f"{name} 1.{name.removeprefix('fifty-')}" in table


def count_of_our_own(place: Place) -> int:
    rows = json.loads(place("plugins", "list", "--json").stdout)
    return sum(row["distribution"] == "lmgraft" for row in rows)


def test_what_asks_for_names_imports_none_of_them(fifty):
    watched = {"IMPORTED": str(fifty / "imported")}
    fifty("plugins", "list", **watched)
    assert RECIPE in fifty("recipes", **watched).stdout
    fifty("--help", **watched)
    assert completed(fifty, "run", "recipe_o", **watched) == [RECIPE]
    filters = completed(fifty, "run", RECIPE, "filter@corpus.filters=part_", **watched)
    assert "filter@corpus.filters=part_4_a" in filters
    assert len(filters) == sum(seam == "filter" for _, seam, _ in expected())
    assert imported(fifty) == []


def test_a_recipe_that_selects_one_imports_one(fifty):
    watched = {"IMPORTED": str(fifty / "imported")}
    assert "would run" in fifty("run", RECIPE, "--dry-run", **watched).stdout
    assert imported(fifty) == ["fifty_4", "fifty_4.plugin", "fifty_4.impl"]
    fifty("run", RECIPE, "store.dir=store", "run.dir=out", **watched)
    assert set(imported(fifty)) == {"fifty_4", "fifty_4.plugin", "fifty_4.impl"}


@pytest.mark.parametrize("name", [*RAISING, *BROKEN])
def test_why_finds_what_is_wrong_with_one_and_imports_no_other(fifty, name):
    said = fifty("plugins", "why", name, IMPORTED=str(fifty / "imported")).stdout
    number = name.removeprefix("fifty-")
    state = BROKEN.get(name, ("broken", ""))[0]
    lines = [line for line in said.splitlines() if line.endswith(f": {state}")]
    assert lines
    assert f"{len(lines)} not usable" in said
    assert ": ok" not in said
    tried = [f"fifty_{number}", *[f"fifty_{number}.plugin"] * len(lines)]
    assert imported(fifty) == (tried if name in RAISING else [])
