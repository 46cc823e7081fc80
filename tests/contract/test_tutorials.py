"""The tutorials, followed to the letter in a fresh environment with lmgraft's own wheel.

A path in backquotes and a colon before a block of code: the file is written. A block ``console``: lines that begin
with ``$`` are run by a shell, the others must be in what they print.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
STEP = re.compile(
    r"^`(?P<path>[\w./-]+)`:\n\n```(?:python|yaml)\n(?P<text>.*?)^```$|^```console\n(?P<lines>.*?)^```$", re.M | re.S
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "module", "most"), [("first_filter", "no_shouting", 30), ("first_objective", "focal", 60)]
)
def test_a_tutorial_does_what_it_says(page, module, most, fresh_python, tmp_path):
    reader, files = Reader(fresh_python, tmp_path), {}
    for found in STEP.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        if found["path"]:
            place = reader.cwd / found["path"]
            assert place.parent.is_dir(), f"{found['path']}: the page says nothing of its folder"
            place.write_text(found["text"], encoding="utf-8")
            files[found["path"]] = found["text"]
        else:
            reader.follow(found["lines"])
    assert reader.commands >= 5
    # What the reader is promised: so many lines of his own, of code, in the light module and the implementation.
    own = [line for path, text in files.items() if path.startswith(f"{module}/") for line in code_of(path, text)]
    assert len(own) <= most, "\n".join(own)


def code_of(path: str, text: str) -> Iterator[str]:
    """Lines that are neither the frame that the scaffold writes (imports, the Component, YAML) nor words."""
    if path.endswith((".yaml", "conformance.py")):
        return
    body = re.sub(r'"""(?:.|\n)*?"""', "", text.partition("@hookimpl")[0])
    for line in body.splitlines():
        bare = line.strip()
        if bare and not bare.startswith(("#", "from ", "import ")):
            yield line


class Reader:
    """Somebody at a shell whose environment is the fresh one."""

    def __init__(self, python: Path, cwd: Path) -> None:
        self.python, self.cwd, self.commands = python, cwd, 0
        tools = cwd / "tools"
        tools.mkdir()
        # pip, of the environment that runs the tests, installs into the fresh one, without an index.
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        self._tool(tools / "pip", f'{shlex.join(pip)} "$@" --no-deps --no-build-isolation --quiet')
        self._tool(tools / "pytest", f'{python} -m pytest -p no:cacheprovider "$@"')
        self._tool(tools / "lmgraft", f'{python} -m lmgraft "$@"')
        self.env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "WORLD_SIZE", "RANK")}
        self.env |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        self.env |= {"LMGRAFT_CACHE": str(cwd / "cache"), "COLUMNS": "200"}

    def _tool(self, file: Path, line: str) -> None:
        file.write_text(f"#!/bin/sh\nexec {line}\n")
        file.chmod(0o755)

    def follow(self, block: str) -> None:
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *expected = step.strip().splitlines()
            self.commands += 1
            if command.startswith("cd "):
                self.cwd /= command.removeprefix("cd ")
                continue
            done = subprocess.run(
                command, shell=True, cwd=self.cwd, env=self.env, capture_output=True, text=True, timeout=300
            )
            said = " ".join((done.stdout + done.stderr).split())
            assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
            for words in expected:
                assert " ".join(words.split()) in said, (
                    f"$ {command}\nshould print: {words}\n{done.stdout}{done.stderr}"
                )
