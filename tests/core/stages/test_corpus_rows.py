"""What filters learn from: every format, and what is broken in it told in three lines."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from lmgraft.errors import UserError
from lmgraft.stages._corpus_rows import rows

ROWS = [{"text": "one\u2028two", "label": "1"}, {"text": 'th"ree\r', "label": "0"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n")),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.jsonl.zst", zstandard.compress(LINES)),
        ("a.jsonl.bz2", bz2.compress(LINES)),
        ("a.jsonl.xz", lzma.compress(LINES)),
        ("a.csv", 'text,label\n"one\u2028two",1\n"th""ree\r",0\n'.encode()),
        ("a.tsv.gz", gzip.compress('text\tlabel\n"one\u2028two"\t1\n"th""ree\r"\t0\n'.encode(), mtime=0)),
    ],
)
def test_every_format(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert list(rows(tmp_path / name)) == ROWS
    assert list(rows(tmp_path)) == ROWS


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(rows(tmp_path / "a.parquet")) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", LINES + b"{oops\n", "line 3 is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is no object"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "cannot be read"),
        ("a.csv", b"text\ncaf\xe9\n", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl.zst", zstandard.compress(LINES * 9)[:-9], "cannot be read"),
        ("a.csv.xz", lzma.compress(bytes(9 << 20)) * 9, "cannot be read"),
        ("a.parquet", b"PAR1 nothing", "cannot be read"),
        ("a.txt", b"text", "is no table"),
    ],
)
def test_what_is_broken_is_told(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said) as error:
        list(rows(tmp_path / name))
    assert len(error.value.render().splitlines()) == 3
    assert name in error.value.problems[0].fact
