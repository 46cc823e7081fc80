"""The writer and the reader of packed tokens, against pinned bytes, a reference in memory, and Megatron itself."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import _token_writer, tokens
from lmgraft.artifacts.tokens import SplitCount, TokenFile, TokensInfo, TokenWriter, token_dtype
from lmgraft.errors import Fault, Stopped, UserError

END = 0
DOCUMENTS = [[5, 6, 7], [], [9], [1, 2, 3, 4, 499]]


def write(prefix: Path, documents: list[list[int]] = DOCUMENTS, vocab_size: int = 500) -> Path:
    with TokenWriter(prefix, token_dtype(vocab_size), END) as writer:
        for document in documents:
            writer.add(document)
    assert writer.documents == len(documents)
    assert writer.tokens == sum(len(document) + 1 for document in documents)
    return prefix


def write_folder(folder: Path) -> Path:
    write(folder / "train")
    splits = {"train": SplitCount(documents=4, tokens=13, bytes=20, characters=18)}
    TokensInfo(vocab_size=500, dtype="uint16", fingerprint="f", end_id=END, pad_id=1, splits=splits).write(folder)
    return folder


def test_the_bytes_are_megatron_s(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<13H", 5, 6, 7, 0, 0, 9, 0, 1, 2, 3, 4, 499, 0)
    expected = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 4, 5)
    expected += struct.pack("<4i", 4, 1, 2, 6) + struct.pack("<4q", 0, 8, 10, 14) + struct.pack("<5q", 0, 1, 2, 3, 4)
    assert (tmp_path / "a.idx").read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.idx"]


def test_large_vocabularies_take_int32(tmp_path: Path) -> None:
    assert token_dtype(65_499) == np.uint16
    assert token_dtype(65_500) == np.int32
    write(tmp_path / "a", [[65_600, 3]], vocab_size=70_000)
    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<3i", 65_600, 3, 0)
    assert (tmp_path / "a.idx").read_bytes()[17] == 4
    assert TokenFile(tmp_path / "a")[0].tolist() == [65_600, 3, 0]


@pytest.mark.parametrize("vocab_size", [500, 70_000])
def test_megatron_reads_the_same(tmp_path: Path, vocab_size: int) -> None:
    module = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    write(tmp_path / "a", vocab_size=vocab_size)
    theirs, ours = module.IndexedDataset(str(tmp_path / "a")), TokenFile(tmp_path / "a")
    assert len(theirs) == len(ours) == len(DOCUMENTS)
    assert theirs.document_indices.tolist() == [0, 1, 2, 3, 4]
    for number, document in enumerate(DOCUMENTS):
        assert theirs[number].tolist() == ours[number].tolist() == [*document, END]


def test_megatron_s_own_files_open(tmp_path: Path) -> None:
    module = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    builder = module.IndexedDatasetBuilder(str(tmp_path / "a.bin"), dtype=np.int64)
    torch = pytest.importorskip("torch")
    builder.add_document(torch.tensor([4, 5, 6, 0, 7, 0]), [4, 2])  # one document of two sequences
    builder.add_document(torch.tensor([8, 0]), [2])
    builder.finalize(str(tmp_path / "a.idx"))
    file = TokenFile(tmp_path / "a")
    assert [file[0].tolist(), file[1].tolist()] == [[4, 5, 6, 0, 7, 0], [8, 0]]
    assert file.boundaries(0, 8).tolist() == [0, 6]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 499), max_size=6), max_size=9), st.integers(0, 40), st.integers(0, 40), st.data()
)
def test_reader_is_a_reference_in_memory(
    tmp_path: Path, documents: list[list[int]], start: int, length: int, data: st.DataObject
) -> None:
    file = TokenFile(write(tmp_path / "a", documents))
    stream = [index for document in documents for index in [*document, END]]
    starts = np.cumsum([0, *(len(document) + 1 for document in documents)])[:-1]
    assert (file.tokens, len(file)) == (len(stream), len(documents))
    assert file.window(start, length).tolist() == stream[start : start + length]
    inside = [s for s in starts if start <= s < start + length]
    assert file.boundaries(start, start + length).tolist() == inside
    positions = np.array(data.draw(st.lists(st.integers(0, 50), max_size=5)), dtype=np.int64)
    assert file.first_at(positions).tolist() == np.searchsorted(starts, positions).tolist()
    assert [file[n].tolist() for n in range(len(documents))] == [[*document, END] for document in documents]


def test_index_is_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, blocks = write(tmp_path / "whole"), tmp_path / "blocks"
    monkeypatch.setattr(_token_writer, "BLOCK", 3)
    write(blocks)
    for suffix in (".bin", ".idx"):
        assert blocks.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), TokenWriter(tmp_path / "a", token_dtype(500), END) as writer:
        writer.add([1])
        assert list(tmp_path.iterdir())
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_does_not_fit_is_a_fault(tmp_path: Path) -> None:
    for index in (70_000, -1):
        with pytest.raises(Fault, match="does not fit"), TokenWriter(tmp_path / "a", token_dtype(9), END) as writer:
            writer.add([index])


def test_documents_out_of_range(tmp_path: Path) -> None:
    file = TokenFile(write(tmp_path / "a"))
    for number in (-1, 4):
        with pytest.raises(IndexError):
            file[number]


def test_broken_files_are_user_errors(tmp_path: Path) -> None:
    prefix = write(tmp_path / "a")
    index, data = prefix.with_suffix(".idx"), prefix.with_suffix(".bin")
    whole_index, whole_data = index.read_bytes(), data.read_bytes()
    cases = [(whole_index[:20], whole_data), (whole_index[:-1], whole_data), (b"x" * 99, whole_data)]
    cases += [(whole_index, whole_data[:-1]), (whole_index[:17] + b"\x07" + whole_index[18:], whole_data)]
    for number, (changed_index, changed_data) in enumerate(cases):
        index.write_bytes(changed_index)
        data.write_bytes(changed_data)
        with pytest.raises(UserError, match="cannot be read") as error:
            TokenFile(prefix)
        assert str(tmp_path) in str(error.value), number
    data.unlink()
    with pytest.raises(UserError, match="is missing"):
        TokenFile(prefix)


def test_info_round_trips(tmp_path: Path) -> None:
    held = tokens.info(write_folder(tmp_path))
    assert held.splits["train"].tokens == 13
    held.write(tmp_path)
    assert tokens.info(tmp_path) == held
    with pytest.raises(UserError, match="is missing"):
        tokens.info(tmp_path / "elsewhere")
    for text in ("[]", "{", '{"splits": {"train": {}}}'):
        (tmp_path / "tokens.json").write_text(text)
        with pytest.raises(UserError, match="cannot be read"):
            tokens.info(tmp_path)


@pytest.mark.parametrize("key", ["vocab_size", "end_id", "pad_id", "first_id"])
@pytest.mark.parametrize("value", [None, "1", 1.5, True])
def test_ids_that_are_no_numbers_are_user_errors(tmp_path: Path, key: str, value: object) -> None:
    TokensInfo(500, "uint16", "abc", END, 1, {"train": SplitCount(4, 13, 60, 50)}, first_id=2).write(tmp_path)
    file = tmp_path / tokens.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(UserError, match=f"{key} is "):
        tokens.info(tmp_path)


def test_verify_finds_what_is_wrong(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    assert tokens.verify(folder) == []
    data = bytearray((folder / "train.bin").read_bytes())
    (folder / "train.bin").write_bytes(bytes(data[:-2]) + struct.pack("<H", 3))
    assert "end token" in tokens.verify(folder)[0]
    (folder / "train.bin").write_bytes(struct.pack("<H", 500) + bytes(data[2:]))
    assert "not in the vocabulary" in tokens.verify(folder)[0]
    (folder / "train.bin").write_bytes(data[:-2])
    assert "cannot be read" in tokens.verify(folder)[0]
    (folder / "train.bin").write_bytes(data)
    content = json.loads((folder / "tokens.json").read_text())
    content["splits"]["train"]["documents"] = 5
    (folder / "tokens.json").write_text(json.dumps(content))
    assert "4 documents" in tokens.verify(folder)[0]


# --- many documents at once -----------------------------------------------------------------------------------------


def test_packed_batches_are_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "one")
    whole = np.array([index for document in DOCUMENTS for index in [*document, END]], "<u2")
    with TokenWriter(tmp_path / "many", token_dtype(500), END) as writer:
        writer.add_packed(whole[:5], np.array([4, 1]), 0)
        writer.add_packed(whole[5:9], np.array([2]), 2)  # ends one document and begins the next
        writer.add_packed(whole[9:11], np.zeros(0, np.int64), 2)
        writer.add_packed(whole[11:], np.array([2]), 0)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / "many").with_suffix(suffix).read_bytes() == (tmp_path / "one").with_suffix(
            suffix
        ).read_bytes()


def test_a_document_left_open_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="not ended"), TokenWriter(tmp_path / "a", token_dtype(9), END) as writer:
        writer.add_packed(np.array([1, 2], "<u2"), np.zeros(0, np.int64), 2)
    assert list(tmp_path.iterdir()) == []


def begun(prefix: Path, work: Path, by: str = "x") -> TokenWriter:
    return TokenWriter(prefix, token_dtype(500), END, work=work, by=by)


def test_work_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_token_writer, "SEAL_BYTES", 1)
    write(tmp_path / "whole")
    prefix, work = tmp_path / "a", tmp_path / "work"
    with contextlib.suppress(KeyError), begun(prefix, work) as writer:
        writer.add(DOCUMENTS[0])
        writer.checkpoint(bytes=3)
        writer.add(DOCUMENTS[1])  # never sealed
        raise KeyError
    with begun(prefix, work) as writer:
        assert (writer.documents, writer.tokens, writer.counts) == (1, 4, {"bytes": 3})
        for document in DOCUMENTS[1:]:
            writer.add(document)
            writer.checkpoint(bytes=9)
    assert not list(tmp_path.glob("a.*"))
    again = begun(prefix, work)
    assert (again.finished, again.documents, again.tokens) == (True, 4, 13)
    with again:
        pass
    again.publish()
    for suffix in (".bin", ".idx"):
        assert prefix.with_suffix(suffix).read_bytes() == (tmp_path / "whole").with_suffix(suffix).read_bytes()
    assert begun(prefix, work).documents == 0  # what is published is no longer there to go on with


@pytest.mark.parametrize("damage", ["by", "bin", "lengths"])
def test_work_that_does_not_fit_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(_token_writer, "SEAL_BYTES", 1)
    work = tmp_path / "work"
    with contextlib.suppress(Stopped), begun(tmp_path / "a", work) as writer:
        writer.add(DOCUMENTS[0])
        writer.checkpoint()
        raise Stopped
    if damage != "by":
        with (work / f"a.{damage}").open("r+b") as file:
            file.truncate(1)
    with begun(tmp_path / "a", work, by="y" if damage == "by" else "x") as writer:
        assert writer.documents == 0
        for document in DOCUMENTS:
            writer.add(document)
    writer.publish()
    write(tmp_path / "whole")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
