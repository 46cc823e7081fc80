"""Reading text in batches: every document once and in order, long ones cut on character borders, nulls named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmgraft.artifacts._pieces import Cutter, cutter
from lmgraft.encoding import batches
from lmgraft.encoding.batches import TextReader, document_id
from lmgraft.encoding.packing import pack
from lmgraft.errors import UserError

GPT2 = cutter({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}})
LLAMA2 = cutter(
    {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "model": {"type": "BPE", "vocab": {"▁": 0}, "merges": []},
    }
)


def write(folder: Path, texts: list[str | None], group: int = 3, kind: pa.DataType | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    half = len(texts) // 2
    for number, rows in enumerate((texts[:half], texts[half:])):
        first = number * half
        ids = pa.array([f"s/{first + row}" for row in range(len(rows))], pa.string())
        table = pa.table({"id": ids, "text": pa.array(rows, kind or pa.string())})
        pq.write_table(table, folder / f"train-0000{number}-of-00002.parquet", row_group_size=group)
    (folder / "funnel.json").write_text(json.dumps({"bytes": {"train": 0}}))
    return folder


def joined(reader: TextReader) -> list[str]:
    """The documents again, pieces put together."""
    found, held = [], ""
    for batch in reader:
        texts = batch.strings()
        assert batch.bytes - batch.dropped == len("".join(texts).encode())
        assert batch.characters - batch.dropped == len("".join(texts))
        assert batch.first == len(found)
        if not batch.joined:
            assert not held
            found += texts
            continue
        spaces = " " if reader._cutter is not None and reader._cutter.dropped else ""
        assert batch.dropped == len(spaces) * (len(texts) - batch.last)
        held += "".join(text + spaces for text in texts[:-1]) + texts[-1] + ("" if batch.last else spaces)
        if batch.last:
            found.append(held)
            held = ""
    assert not held
    return found


WORDS = st.lists(st.sampled_from(["a", "word", " ", " ", "漢字", "，", "é", "👍", "x1", "\n"])).map("".join)


@pytest.mark.parametrize("rule", [GPT2, LLAMA2, None], ids=["gpt2", "llama2", "whole"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(WORDS, min_size=2, max_size=12), size=st.integers(1, 40), piece=st.integers(4, 20))
def test_every_document_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Cutter | None, texts: list[str], size: int, piece: int
) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", piece)
    monkeypatch.setattr(batches, "_WINDOW", 16)
    folder = write(tmp_path / "corpus", texts)
    assert joined(TextReader(folder, "train", rule, size)) == texts
    rest = [batch.first for batch in TextReader(folder, "train", rule, size, skip=len(texts) - 1)]
    assert set(rest) == {len(texts) - 1}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_other_types_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["one", "", "two 漢字", "one"]
    try:
        folder = write(tmp_path, texts, kind=kind)
    except pa.ArrowNotImplementedError:
        pytest.skip("pyarrow does not write it")
    assert joined(TextReader(folder, "train", GPT2, 10)) == texts


def test_pieces_of_a_document_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 10)
    folder = write(tmp_path, ["short", "a document that has several pieces in it", ""])
    lengths, open_tokens, ids = [], 0, []
    for batch in TextReader(folder, "train", GPT2, 15):
        spelled = [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in batch.strings()]
        offsets = np.cumsum([0, *map(len, spelled)])
        packed = pack(batch, (np.concatenate(spelled), offsets), 300, np.dtype("<u2"))
        assert bool(packed.open_tokens) == (batch.joined and not batch.last)
        ids += np.frombuffer(packed.data, "<u2").tolist()
        if len(packed.lengths):
            lengths += [int(packed.lengths[0]) + open_tokens, *packed.lengths[1:].tolist()]
            open_tokens = 0
        open_tokens += packed.open_tokens
    assert lengths == [6, 41, 1]
    assert bytes(index for index in ids if index != 300) == b"shorta document that has several pieces in it"
    assert [place for place, index in enumerate(ids) if index == 300] == [5, 46, 47]


def test_a_document_without_text_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, ["a", "b", "c", "d", None, "f"])
    with pytest.raises(UserError, match="'s/4' of split train has no text"):
        list(TextReader(folder, "train", GPT2, 1))
    assert document_id(folder, "train", 5) == "s/5"
    with pytest.raises(IndexError):
        document_id(folder, "train", 6)


@pytest.mark.parametrize("rule", [GPT2, None], ids=["cut", "whole"])
def test_what_cannot_be_cut_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Cutter | None) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 10)
    rule = rule and replace(rule, longest=50)
    monkeypatch.setattr(batches, "LONGEST_WHOLE", 70)
    monkeypatch.setattr(batches, "_WINDOW", 16)
    fine = ["é" * 25 + " b", "a b", "c"]
    assert joined(TextReader(write(tmp_path / "fine", fine), "train", rule, 10)) == fine
    folder = write(tmp_path / "long", ["a", "b", "word " + "x" * 80, "c"])
    told = "a word of more than 50 bytes" if rule else "has 85 bytes"
    with pytest.raises(UserError, match=f"'s/2' of split train has {told.removeprefix('has ')}"):
        list(TextReader(folder, "train", rule, 10))
