"""Holds ``files`` to the data sources' contract: JSONL in ranges, and plain text files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.testing import DataSourceSuite

__all__ = ["TestFiles", "TestFilesOfText"]


class TestFiles(DataSourceSuite):
    """Rows: several ranges of one file, several rows in each."""

    component = "files"
    settings: ClassVar[dict[str, Any]] = {"document_bytes": 600, "range_bytes": 900}

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        half = len(texts) // 2
        for name, own in (("b/rows.jsonl", texts[:half]), ("a.ndjson", texts[half:])):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = (json.dumps({"text": text, "n": n}, ensure_ascii=bool(n % 2)) for n, text in enumerate(own))
            file.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "rows.jsonl").write_text('{"text": "whole"}\n{"text": "half\n', encoding="utf-8")
        return {"path": str(folder / "rows.jsonl")}


class TestFilesOfText(DataSourceSuite):
    """Plain text, a file for each."""

    component = "files"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        for number, text in enumerate(texts):
            file = folder / str(number % 3) / f"{number}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(text.encode())
        return {"path": [str(folder / name) for name in ("2", "0", "1")]}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "latin.txt").write_bytes(b"a line\nna\xefve\n")
        return {"path": str(folder)}
