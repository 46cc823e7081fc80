"""The run directory: where it lies, the links to artifacts in it, and what is read back from it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["METRICS", "default_run_dir", "headline", "link", "linked", "prepare"]

METRICS = "metrics.jsonl"


def default_run_dir(name: str) -> Path:
    """Makes ``runs/RECIPE/TIME``; a second run in the same second gets a suffix."""
    base = Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in itertools.count():
        folder = base if number == 0 else base.with_name(f"{base.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(folder, error) from error
        return folder
    raise AssertionError("unreachable")


def _unwritable(folder: Path, error: OSError) -> UserError:
    cause = error.strerror or str(error)
    return UserError(Problem(f"the run directory {folder} cannot be written", cause, "run.dir=PATH chooses another"))


def prepare(folder: Path) -> None:
    """Makes a run directory, or empties the links of one that is there; UserError where it cannot be written."""
    try:
        (folder / "stages").mkdir(parents=True, exist_ok=True)
        found = list((folder / "stages").iterdir())
        ours = [place for place in found if place.is_symlink() or place.suffix == ".path"]
        if len(found) > len(ours):
            place = next(place for place in found if place not in ours)
            cause = "runs keep links there, and this is none: it may be somebody's only copy"
            raise UserError(Problem(f"{place} is in the way", cause, "move it, or run.dir=PATH chooses another"))
        for link in ours:
            link.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def link(place: Path, target: Path) -> None:
    """A link to the artifact; where the system allows none, a text file that holds the path."""
    if place.is_symlink():
        place.unlink()
    try:
        os.symlink(target, place, target_is_directory=True)
    except OSError:
        place.with_suffix(".path").write_text(str(target), encoding="utf-8")


def linked(folder: Path, stage: str) -> Path | None:
    """The artifact of a stage of a run directory."""
    place = folder / "stages" / stage
    if place.exists():
        return place.resolve()
    written = place.with_suffix(".path")
    return Path(written.read_text(encoding="utf-8")) if written.is_file() else None


def headline(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The scores of a manifest, the model's own before the references."""
    return sorted(data.get("scores", ()), key=lambda score: bool(score.get("reference")))
