from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lmgraft.store._inodes import cut_off


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_files_that_somebody_holds_open_are_copied(folder: Path) -> None:
    before = inodes(folder)
    with open(folder / "deep" / "b", "a") as held:
        cut_off(folder, local=True)
        held.write("late")
    after = inodes(folder)
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert (folder / "deep" / "b").read_text() == "deep/b"


def test_where_holders_cannot_be_seen_every_file_is_copied(folder: Path) -> None:
    with open(folder / "a", "a") as held:
        cut_off(folder, local=False)
        held.write("late")
    assert (folder / "a").read_text() == "a"
    assert sorted(inodes(folder)) == ["a", "b"]
