"""What a classifier learnt, on disk: arrays as safetensors and a report as JSON. Nothing is ever pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

__all__ = ["Arrays", "load", "save"]

Arrays = dict[str, npt.NDArray[Any]]

MODEL, REPORT = "model.safetensors", "fit.json"


def save(folder: Path, arrays: Arrays, report: Mapping[str, Any]) -> None:
    """Writes both; the report comes last and stands for the whole."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / MODEL)
    unfinished = folder / f"{REPORT}.part"
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(folder / REPORT)


def load(folder: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """(arrays, report), or None where there is nothing yet."""
    if not (folder / REPORT).exists():
        return None
    return load_file(folder / MODEL), json.loads((folder / REPORT).read_text(encoding="utf-8"))
