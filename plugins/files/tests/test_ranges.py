"""Ranges are disjoint and exhaustive, and reading goes on from every offset, whatever the bytes are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_files.json_array import JsonArray
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.source import Files
from lmgraft_files.table import Row

BREAKS = ["\n", "\n\n", "\r\n", "\r\n\r\n", "\u2028"]
WORDS = st.sampled_from(["a", "bc", "é", "日本語", "𝄞", "long" * 9, " ", "\t", *BREAKS])
VALUES = st.one_of(WORDS, st.integers(), st.lists(WORDS, max_size=2))
LIMIT = 16  # below what check() allows, so that small examples have many cuts


def read(data: bytes, name: str, document_bytes: int, range_bytes: int) -> list[list[Document]]:
    """The documents of each unit; every unit is also read from every offset."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        source = Files(FilesConfig(path=str(path), document_bytes=document_bytes, range_bytes=range_bytes))
        units = source.units()
        found = [[one for one in source.read(unit, 0) if not isinstance(one, Damaged)] for unit in units]
        assert sum(map(len, found)) == sum(1 for unit in units for _ in source.read(unit, 0))
        for unit, whole in zip(units, found, strict=True):
            for offset in range(len(whole) + 1):
                assert list(source.read(unit, offset)) == whole[offset:]
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=60), st.integers(LIMIT, 80))
def test_no_byte_of_text_is_lost_or_repeated(words: list[str], range_bytes: int) -> None:
    data = "".join(words).encode()
    pieces = [document.text or "" for unit in read(data, "a.txt", LIMIT, range_bytes) for document in unit]
    assert "".join(pieces).encode() == data
    assert all(0 < len(piece.encode()) <= LIMIT for piece in pieces)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=6).map("".join), min_size=1, max_size=20), st.integers(1, 200), st.data())
def test_every_row_is_in_one_range(texts: list[str], range_bytes: int, data: st.DataObject) -> None:
    breaks = st.sampled_from(["\n", "\r\n", "\n\n", "\n  \n"])
    lines = [json.dumps({"text": text}, ensure_ascii=False) + data.draw(breaks) for text in texts]
    raw = "".join(lines).encode()
    if data.draw(st.booleans()):
        raw = raw.rstrip()
    found = [document for unit in read(raw, "a.jsonl", 1, range_bytes) for document in unit]
    assert [document.text for document in found] == texts
    assert len({document.id for document in found}) == len(texts)


def array(path: Path, chunk: int) -> list[Row]:
    rows = list(JsonArray(str(path), FilesConfig(), chunk).rows())
    assert not [row for row in rows if isinstance(row, Damaged)]
    return rows  # type: ignore[return-value]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.dictionaries(WORDS, VALUES, max_size=3), max_size=6),
    st.integers(1, 40),
    st.sampled_from([None, 1, 3]),
)
def test_a_json_list_reads_the_same_in_chunks_of_any_size(rows: list[object], chunk: int, indent: int | None) -> None:
    text = json.dumps(rows, ensure_ascii=False, indent=indent)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(text.encode())
        read_back = array(path, chunk)
    assert [row.values for row in read_back] == rows
    starts = [row.place for row in read_back]
    assert starts == sorted(starts)
    if indent:
        lines = text.split("\n")
        assert all(lines[line - 1].lstrip().startswith("{") for line in starts)


def test_a_long_string_may_go_on_in_the_next_chunk(tmp_path: Path) -> None:
    rows = [{"text": "x" * 1000}, {"text": "é" * 500}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert [row.values for row in array(path, 8)] == rows
