"""Holds ``hub`` to the data sources' contract, on a downloaded data set: the readers are those that stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.testing import DataSourceSuite

__all__ = ["TestHub"]


class TestHub(DataSourceSuite):
    """Three files of one split, one of another."""

    component = "hub"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        third = len(texts) // 3
        parts = (texts[:third], texts[third : 2 * third], texts[2 * third :])
        (folder / "data").mkdir()
        for number, own in enumerate(parts):
            rows = "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(own))
            (folder / "data" / f"train-{number:05d}-of-00003.jsonl").write_text(rows, encoding="utf-8")
        (folder / "data" / "test-00000-of-00001.jsonl").write_text('{"text": "of another split", "n": 0}\n')
        return {"name": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        rows = ({"text": "whole"}, {"text": None}, {"text": "whole too"}, {"text": "the end"})
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"name": str(folder)}
