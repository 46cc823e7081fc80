"""Where the attacks happen: a user's disk, and what shows that it was harmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from lmgraft.cli import main
from recipe_doors import CALL, SECRET, Door

__all__ = ["Scene", "make_scene", "poison", "process"]


@dataclass
class Scene:
    """A user's disk: the stranger's folder, where the user stands, and what is none of a recipe's business."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def marker(self) -> Path:
        return self.root / "marker"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def stranger(self) -> Path:
        return self.root / "user" / "stranger"

    def fill(self, text: str | bytes) -> bytes:
        data = text.encode() if isinstance(text, str) else text
        for word, place in (("MARKER", self.marker), ("OUTSIDE", self.outside), ("DOCS", self.root / "docs")):
            data = data.replace(f"@{word}@".encode(), str(place).encode())
        return data

    def write(self, door: Door) -> str:
        for name, text in door.files.items():
            file = self.stranger / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.fill(text))
        for name, target in door.links.items():
            (self.stranger / name).symlink_to(self.fill(target).decode())
        return str(self.stranger / next(iter(door.files)))

    def run(self, *arguments: str) -> tuple[int, str]:
        """(exit code, everything printed) of the command line, in this process."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = self.capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    def harm(self) -> Iterator[str]:
        """Effects on the disk: code that ran, files where none belong, the secret in any file."""
        if self.marker.exists():
            yield "code ran"
        if sorted(path.name for path in self.outside.rglob("*")) != ["evil.yaml", "precious", "will.txt"]:
            yield "the outside was changed"
        for path in self.root.rglob("*"):
            if path.is_file() and SECRET.encode() in path.read_bytes():
                yield f"the secret stands in {path.relative_to(self.root)}"


def make_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scene:
    scene = Scene(tmp_path, capsys)
    scene.stranger.mkdir(parents=True)
    (scene.outside / "precious").mkdir(parents=True)
    (scene.outside / "precious" / "will.txt").write_text("to be read when I am gone")
    (scene.outside / "evil.yaml").write_bytes(scene.fill(f"# @package hydra.callbacks\na: {CALL}\n"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("A little text.\n" * 20)
    monkeypatch.setenv("LMGRAFT_TEST_WORD", SECRET)
    monkeypatch.setenv("LMGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(scene.stranger.parent)
    return scene


def poison(scene: Scene, *names: str) -> None:
    for name in names:
        file = scene.stranger / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(scene.marker)!r}, 'w').close()\n")


def process(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0], path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None
    return subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True, timeout=120)
