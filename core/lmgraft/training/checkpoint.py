"""Checkpoints of a training run under way: atomic, checksummed, the last few kept.

A checkpoint is a folder ``step-00000123`` with what the engine saved, ``state.json`` (what the loop knows) and
``checksums.json`` (sha256 of every file). It is written under another name, forced to the disk and renamed, so a kill
at any instant leaves either the new one whole or the old one untouched. A checkpoint that was damaged afterwards does
not verify, and the one before it is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CHECKSUMS", "STATE", "Checkpoint", "damage", "latest", "save"]

STATE = "state.json"
CHECKSUMS = "checksums.json"

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is complete on disk."""

    step: int
    """Steps that were trained."""
    path: Path
    state: Mapping[str, Any]
    """What the loop put there; JSON values."""


def save(folder: Path, step: int, state: Mapping[str, Any], write: Callable[[Path], None], keep: int) -> Path:
    """Writes the checkpoint of ``step`` and drops all but the last ``keep`` up to it; gives its folder.

    ``write`` puts the engine's files into the folder that it is given. Checkpoints of later steps, which can only be
    damaged ones or those of a history that was abandoned, go too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    temporary = folder / f"step-{step:08d}.tmp-{os.getpid()}"
    temporary.mkdir()
    write(temporary)
    (temporary / STATE).write_text(json.dumps({**state, "step": step}, sort_keys=True) + "\n", encoding="utf-8")
    sums = {path.relative_to(temporary).as_posix(): _sha256(path) for path in _files(temporary)}
    (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in _files(temporary):
        _sync(path)
    _sync(temporary)
    target = folder / f"step-{step:08d}"
    if target.exists():  # one that did not verify: rename cannot replace a folder that is not empty
        target.rename(folder / f"{target.name}.tmp-damaged-{os.getpid()}")
    temporary.rename(target)
    _sync(folder)
    _prune(folder, step, keep)
    return target


def latest(folder: Path, note: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None. Says through ``note`` which ones it had to pass over."""
    for step, path in sorted(_all(folder), reverse=True):
        why = damage(path)
        if why is None:
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
            return Checkpoint(step, path, state)
        note(f"checkpoint {path.name} is damaged ({why}); going back to the one before it")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None where every file is as it was written."""
    try:
        sums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        for name, digest in sums.items():
            if _sha256(path / name) != digest:
                return f"{name} has other content than was written"
        if STATE not in sums:
            return f"{CHECKSUMS} does not list {STATE}"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return str(error) or type(error).__name__
    return None


def _all(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return [(int(match[1]), path) for match, path in matches if match]


def _prune(folder: Path, step: int, keep: int) -> None:
    # Counting later steps as well would let a damaged one push out the only one that verifies.
    kept = sorted((found for found in _all(folder) if found[0] <= step), reverse=True)[:keep]
    for found in _all(folder):
        if found not in kept:
            # Renamed first: a kill in the midst of deleting must not leave a folder that passes for a checkpoint.
            found[1].rename(folder / f"{found[1].name}.tmp-old-{os.getpid()}")
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Removes what a killed process left half-written; nobody else writes here (the stage's lease sees to that)."""
    for path in folder.glob("step-*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
