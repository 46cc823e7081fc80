"""Where the tests of this folder give commands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from third_party import lmgraft

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """Where commands are given: a folder, and the interpreter or the site that sees the distributions."""

    folder: Path
    python: Path | None = None
    site: Path | None = None

    def __call__(self, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        python = str(self.python or sys.executable)
        return lmgraft(*arguments, cwd=self.folder, site=self.site, python=python, code=code, **env)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name
