"""Folders that ``datasets`` writes by ``save_to_disk``: which of their files hold rows."""

from __future__ import annotations

import json
import os
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["DICT", "INFO", "STATE", "saved_files"]

DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def saved_files(folder: str, names: set[str], split: str | None) -> tuple[list[str], bool] | None:
    """(the files with rows, relative to ``folder``; whether it is a DatasetDict), or None where ``datasets`` did not
    write it. ``names`` are its entries.

    Raises UserError where there are several splits and none is chosen, or the chosen one or a file is missing.
    """
    if DICT in names and isinstance(splits := _object(folder, DICT).get("splits"), list):
        chosen = _chosen(folder, [str(name) for name in splits], split)
        return [f"{chosen}/{name}" for name in _files(os.path.join(folder, chosen))], True
    if STATE in names and "_data_files" in _object(folder, STATE):
        return _files(folder), False
    return None


def _chosen(folder: str, splits: list[str], split: str | None) -> str:
    told = f"it has {', '.join(splits) or 'none'}"
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None:
        fact = f"files.path: {folder} holds a DatasetDict, and no split is chosen"
        remedy = f"files.split={splits[0] if splits else 'NAME'}; for several, a list of their folders as files.path"
        raise UserError(Problem(fact, told, remedy))
    if split not in splits:
        fact = f"files.split={split} is not in {folder}"
        raise UserError(Problem(fact, told, f"files.split={splits[0] if splits else 'null'}"))
    return split


def _files(folder: str) -> list[str]:
    state = _object(folder, STATE)
    if state.get("_indices_data_files"):
        cause = "it keeps which rows were selected apart from the rows"
        raise UserError(Problem(f"files.path: {folder} is an old datasets folder", cause, "load it and save it again"))
    files = [str(row.get("filename")) for row in state.get("_data_files") or () if isinstance(row, dict)]
    for name in files:
        if os.path.basename(name) != name or not os.path.isfile(os.path.join(folder, name)):
            cause = f"{os.path.join(folder, STATE)} names it among the files with rows"
            raise UserError(
                Problem(f"files.path: {os.path.join(folder, name)} is missing", cause, "copy the folder again")
            )
    return files


def _object(folder: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
