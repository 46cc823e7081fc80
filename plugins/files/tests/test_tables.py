"""CSV and TSV, Arrow, saved ``datasets`` folders and large Parquet files; every compression."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_files.plugin import FilesConfig, Rows
from lmgraft_files.source import Files

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def files(path: Path, **more: object) -> Files:
    config = FilesConfig(path=str(path), **more)  # type: ignore[arg-type]
    assert not list(config.check())
    return Files(config)


def read(source: Files) -> list[Document | Damaged]:
    return [found for unit in source.units() for found in source.read(unit, 0)]


def documents(source: Files) -> list[Document]:
    found = read(source)
    assert [one for one in found if isinstance(one, Damaged)] == []
    return found  # type: ignore[return-value]


# --- CSV and TSV ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACK)
def test_csv_and_tsv_compressed_or_not(tmp_path: Path, kind: str) -> None:
    text = '\ufefftext,n\r\n"a, ""b""\r\nand\u2028more",1\r\n\r\nplain,2\r\n'
    (tmp_path / f"a.csv{kind}").write_bytes(PACK[kind](text.encode()))
    (tmp_path / f"b.tsv{kind}").write_bytes(PACK[kind](b'text\tn\n"tab\there"\t3\nplain, here\t4'))
    found = documents(files(tmp_path))
    assert [one.text for one in found] == ['a, "b"\r\nand\u2028more', "plain", "tab\there", "plain, here"]
    assert [one.meta for one in found] == [{"n": "1"}, {"n": "2"}, {"n": "3"}, {"n": "4"}]
    assert found[1].id == f"a.csv{kind}:1"


def test_csv_takes_columns_as_rows_do(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer,site\nWhy?,So.,x\n")
    columns = {"instruction": "question", "output": "answer"}
    (found,) = documents(files(tmp_path, rows=Rows.alpaca, columns=columns, group="site"))
    assert [message["content"] for message in found.messages or ()] == ["Why?", "So."]
    assert found.group == "x"


def test_other_delimiters_and_quotes_that_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text;n\n"a;b";1\n')
    assert [one.text for one in documents(files(tmp_path, delimiter=";"))] == ["a;b"]
    (tmp_path / "a.csv").write_text('text\tn\n"to be\t1\nor "not"\t2\n')
    assert [one.text for one in documents(files(tmp_path, delimiter="\t", quotes=False))] == ['"to be', 'or "not"']


def test_a_field_above_the_librarys_limit_is_read(tmp_path: Path) -> None:
    long = "word " * 100_000
    (tmp_path / "a.csv").write_text(f"text\n{long}\n")
    assert [one.text for one in documents(files(tmp_path))] == [long]


def test_the_line_of_a_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"one\ntwo\nthree",1\n\nshort\nfour,2\n')
    found = read(files(tmp_path))
    assert [one.text for one in found if isinstance(one, Document)] == ["one\ntwo\nthree", "four"]
    (damaged,) = [one for one in found if isinstance(one, Damaged)]
    assert damaged.problem.fact == f"files: {tmp_path}/a.csv:6 has 1 fields"
    assert damaged.bytes == len("short\n")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,text\na,b\n")
    with pytest.raises(UserError, match="two columns 'text'"):
        read(files(tmp_path))


CELLS = st.text(alphabet='ab ,"\n\ré\u2028\t', max_size=8).filter(lambda cell: "\0" not in cell)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "other"), *rows])
    (folder / "a.csv").write_bytes(buffer.getvalue().encode())
    source = files(folder)
    found = documents(source)
    assert [(one.text, one.meta["other"]) for one in found] == rows
    for offset in range(len(rows) + 1):
        assert list(source.read(source.units()[0], offset)) == found[offset:]


# --- Arrow and datasets ---------------------------------------------------------------------------------------------

TABLE = pa.table({"text": [f"row {n}" for n in range(2000)], "n": range(2000), "vector": [[0.5]] * 2000})


def test_arrow_files_and_streams(tmp_path: Path) -> None:
    for name, new in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with new(str(tmp_path / name), TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=700)
    source = files(tmp_path)
    found = documents(source)
    assert [one.text for one in found] == [f"row {n}" for n in range(2000)] * 2
    assert found[7].meta == {"n": 7}
    assert list(source.read(source.units()[1], 1500)) == found[3500:]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A DatasetDict of two splits, one of them in two shards."""
    train = datasets.Dataset.from_dict({"text": [f"train {n}" for n in range(50)], "n": list(range(50))})
    test = datasets.Dataset.from_dict({"text": ["test"], "n": [0]})
    folder = tmp_path / "saved"
    datasets.DatasetDict(train=train.select(range(10, 40)), test=test).save_to_disk(
        folder, num_shards={"train": 2, "test": 1}
    )
    # What map() leaves there, and what does not belong to the rows.
    (folder / "train" / "cache-0123.arrow").write_bytes(b"no rows")
    return folder


def test_a_saved_dataset_dict(tmp_path: Path, saved: Path) -> None:
    source = files(saved, split="train")
    assert [unit.id for unit in source.units()] == [f"train/data-{n:05d}-of-00002.arrow" for n in range(2)]
    assert [one.text for one in documents(source)] == [f"train {n}" for n in range(10, 40)]
    assert [one.text for one in documents(files(saved, split="test"))] == ["test"]
    # Below another folder, and a split by itself.
    assert [one.text for one in documents(files(tmp_path, split="test"))] == ["test"]
    assert [one.text for one in documents(files(saved / "test"))] == ["test"]


def test_splits_are_chosen(saved: Path, tmp_path: Path) -> None:
    def said(path: Path, **more: object) -> str:
        with pytest.raises(UserError) as error:
            files(path, **more).units()
        assert len(str(error.value).splitlines()) == 3
        return str(error.value)

    assert "no split is chosen" in said(saved)
    assert "files.split=train" in said(saved)
    assert "it has train, test" in said(saved, split="dev")
    assert "chooses nothing" in said(saved / "test", split="test")
    state = saved / "test" / "state.json"
    told = json.loads(state.read_text())
    state.write_text(json.dumps({**told, "_data_files": [{"filename": "data-9.arrow"}]}))
    assert "data-9.arrow is missing" in said(saved, split="test")
    state.write_text(json.dumps({**told, "_indices_data_files": [{"filename": "indices.arrow"}]}))
    assert "save it again" in said(saved, split="test")
    (saved / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert len(files(saved).units()) == 2, "where there is one split, it is taken"


def test_json_beside_other_files_is_rows(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('[{"text": "a state"}]')
    assert [one.text for one in documents(files(tmp_path))] == ["a state"]


# --- Parquet --------------------------------------------------------------------------------------------------------


def test_large_parquet_files_are_shared_by_row_groups(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=300)
    whole = documents(files(tmp_path))
    source = files(tmp_path, document_bytes=64, range_bytes=4000)
    units = source.units()
    assert len(units) > 2
    assert units[0].start == 0
    assert units[-1].end == 7
    assert all(before.end == after.start for before, after in itertools.pairwise(units))
    assert [unit.id for unit in units] == [f"a.parquet@{unit.start}" for unit in units]
    assert all(0 < unit.size <= 4000 or unit.end == unit.start + 1 for unit in units)
    found = documents(source)
    assert [one.text for one in found] == [one.text for one in whole]
    assert len({one.id for one in found}) == 2000
    for unit in units:
        own = list(source.read(unit, 0))
        assert list(source.read(unit, 123)) == own[123:]
    # Behind damage the row is told that it has in the file.
    pq.write_table(pa.table({"text": ["a"] * 700 + [None] + ["b"] * 9}), tmp_path / "a.parquet", row_group_size=100)
    (damaged,) = [one for one in read(files(tmp_path, document_bytes=64, range_bytes=64)) if isinstance(one, Damaged)]
    assert "a.parquet (row 701): 'text' is no text" in damaged.problem.fact


def test_a_large_file_that_is_no_parquet_is_told_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(999))
    source = files(tmp_path, document_bytes=64, range_bytes=100)
    (unit,) = source.units()
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
        list(source.read(unit, 0))


def test_settings_are_checked() -> None:
    def problems(**more: object) -> str:
        return "\n".join(str(problem) for problem in FilesConfig(**more).check())  # type: ignore[arg-type]

    for more, word in (
        ({"row_bytes": 3}, "row_bytes"),
        ({"expansion": 1}, "expansion"),
        ({"delimiter": ""}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"split": ""}, "split"),
    ):
        assert word in problems(**more)
