"""Holds ``files`` to the data sources' contract: JSONL in ranges, plain text files, compressed CSV, and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.testing import DataSourceSuite

__all__ = ["TestFiles", "TestFilesOfCsv", "TestFilesOfParquet", "TestFilesOfText"]


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


class TestFilesOfCsv(DataSourceSuite):
    """Tables, compressed, of two members each; damage among the rows."""

    component = "files"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        half = len(texts) // 2
        for name, own in (("a.csv.gz", texts[:half]), ("b.csv.gz", texts[half:])):
            table = io.StringIO(newline="")
            csv.writer(table, lineterminator="\n").writerows([["n", "text"], *enumerate(own)])
            data = table.getvalue().encode()
            (folder / name).write_bytes(gzip.compress(data[:99], mtime=0) + gzip.compress(data[99:], mtime=0))
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "rows.csv").write_bytes(b"n,text\n1,whole\n2\n3,caf\xe9\n4,whole too\n5,the end\n")
        return {"path": str(folder / "rows.csv")}


class TestFilesOfParquet(DataSourceSuite):
    """Row groups of one file, shared among units."""

    component = "files"
    settings: ClassVar[dict[str, Any]] = {"document_bytes": 64, "range_bytes": 64}

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"text": list(texts), "n": range(len(texts))})
        pq.write_table(table, folder / "rows.parquet", row_group_size=5)
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "rows.parquet").write_bytes(b"PAR1, and nothing that belongs there")
        return {"path": str(folder)}


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
