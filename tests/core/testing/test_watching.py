"""Writes are seen where they happen, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lmgraft.testing.watching import stray_writes


def seen(tmp_path: Path, work: Callable[[Path], object]) -> list[str]:
    given, cwd = tmp_path / "given", tmp_path / "cwd"
    given.mkdir()
    cwd.mkdir()
    before = Path.cwd()
    with stray_writes(cwd, [given]) as found:
        assert Path.cwd() == cwd.resolve()
        work(given)
    assert Path.cwd() == before
    return found


@pytest.mark.parametrize(
    ("work", "names"),
    [
        (lambda given: Path("left.txt").write_text("x"), ["left.txt"]),
        (lambda given: Path("folder").mkdir(), ["folder"]),
        (lambda given: (Path("gone").write_text("x"), Path("gone").unlink()), ["gone"]),
        (lambda given: os.symlink(given, "link"), ["link"]),
        (lambda given: os.close(os.open("low", os.O_CREAT | os.O_WRONLY)), ["low"]),
        (lambda given: subprocess.run([sys.executable, "-c", "open('child', 'w')"]), ["child"]),
        (lambda given: (given / "a").write_text("x") and (given / "a").rename("moved"), ["moved"]),
    ],
)
def test_what_is_written_in_the_working_directory(tmp_path: Path, work: Callable[[Path], object], names: list[str]):
    assert seen(tmp_path, work) == names


def test_what_is_written_below_the_given_folder_or_read_anywhere_is_none(tmp_path: Path):
    def work(given: Path) -> None:
        (given / "deep" / "er").mkdir(parents=True)
        (given / "deep" / "er" / "file").write_text("x")
        shutil.rmtree(given / "deep")  # names files relative to a descriptor
        Path(__file__).read_text()
        Path(os.devnull).write_text("x")

    assert seen(tmp_path, work) == []


def test_the_home_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The system's temporary folder is allowed, and pytest's own lies in it: it is told to be elsewhere.
    (tmp_path / "temporary").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    found = seen(tmp_path, lambda given: (tmp_path / "home" / ".cache").write_text("x"))
    assert found == [str((tmp_path / "home" / ".cache").resolve())]
