"""The artifact of encoded rows: what is written is read back, and damage is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import examples, rules
from lmgraft.artifacts.examples import EncodedBy, Row, RowCount, RowsInfo, ShardWriter
from lmgraft.errors import Fault, UserError


def row(unit: int, role: int = 0, length: int = 4) -> Row:
    ids = (np.arange(length) + unit) % 90
    weights = np.where(np.arange(length) % 3, 0.1 * unit, 0.0).astype(np.float32)
    return Row(f"d{unit}", unit, role, ids.astype(np.int32), weights, [unit / 3])


def write(folder: Path, rows: list[Row], shards: int = 2) -> RowsInfo:
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
        writer = ShardWriter(folder / examples.shard_name("train", number, shards))
        for place in part:
            writer.add(rows[place])
        writer.close()
    units = len({one.unit for one in rows})
    count = RowCount(units, units, len(rows), sum(len(one.tokens) - 1 for one in rows))
    told = RowsInfo(90, "f", 0, 1, "c", EncodedBy("part", "hash", 1, {"template": "é"}), ["third"], {"train": count})
    told.write(folder)
    return told


ROWS = [row(unit, role, 2 + (7 * unit) % 11) for unit in range(9) for role in (0, 1)]


def equal(one: Row, other: Row) -> bool:
    names = [field.name for field in dataclasses.fields(Row)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    told = write(tmp_path / "rows", ROWS)
    assert examples.info(tmp_path / "rows") == told
    found = list(examples.rows(tmp_path / "rows", "train"))
    assert len(found) == len(ROWS)
    assert all(map(equal, found, ROWS))
    assert [[one.role for one in unit] for unit in examples.units(tmp_path / "rows", "train")] == [[0, 1]] * 9
    assert list(examples.rows(tmp_path / "rows", "validation")) == []
    assert rules.broken("tokens", tmp_path / "rows") == []


def test_row_groups_do_not_depend_on_how_rows_arrive_and_bound_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "GROUP", 30)
    write(tmp_path / "rows", ROWS, shards=1)
    file = pq.ParquetFile(tmp_path / "rows/train-00000-of-00001.parquet")
    assert file.num_row_groups > 3
    assert len(list(examples.rows(tmp_path / "rows", "train"))) == len(ROWS)


def test_masks_take_few_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = ShardWriter(tmp_path / "train-00000-of-00001.parquet")
    for unit in range(500):
        weights = (np.arange(400) > 300).astype(np.float32)
        writer.add(Row("d", unit, 0, rng.integers(0, 30_000, 400).astype(np.int32), weights))
    writer.close()
    columns = pq.read_metadata(writer.path).row_group(0)
    sizes = {columns.column(i).path_in_schema: columns.column(i).total_compressed_size for i in range(6)}
    assert sizes["weights.list.element"] < 500 * 8
    assert sizes["tokens.list.element"] > 500 * 400


@pytest.mark.parametrize(
    ("length", "edge"),
    [(1, 16), (16, 16), (17, 24), (24, 24), (25, 32), (33, 48), (49, 64), (1024, 1024), (1025, 1536)],
)
def test_buckets(length: int, edge: int) -> None:
    assert examples.bucket(length) == edge


def damaged(folder: Path, rows: list[Row], says: str) -> None:
    told = write(folder, ROWS)
    for path in folder.glob("*.parquet"):
        path.unlink()
    write(folder / "other", rows)
    for path in (folder / "other").glob("*.parquet"):
        path.rename(folder / path.name)
    told.write(folder)
    assert any(says in line for line in rules.broken("tokens", folder)), rules.broken("tokens", folder)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS[:-2], "it holds 8 units; rows.json says 9"),
        (ROWS[2:], "unit 1 follows unit -1"),
        ([dataclasses.replace(ROWS[0], values=[]), *ROWS[1:]], "'d0' has 0 values; rows.json names 1"),
        ([dataclasses.replace(ROWS[0], tokens=np.array([3, 90], np.int32)), *ROWS[1:]], "not in the vocabulary of 90"),
        ([dataclasses.replace(ROWS[0], weights=np.array([0, np.inf], np.float32)), *ROWS[1:]], "not finite"),
    ],
)
def test_damage_is_told(tmp_path: Path, rows: list[Row], says: str) -> None:
    damaged(tmp_path / "rows", rows, says)


def test_a_missing_shard_and_a_broken_one_are_told(tmp_path: Path) -> None:
    write(tmp_path / "rows", ROWS)
    first = tmp_path / "rows/train-00000-of-00002.parquet"
    first.write_bytes(first.read_bytes()[:-50])
    assert any("cannot be read" in line for line in rules.broken("tokens", tmp_path / "rows"))
    first.unlink()
    assert any("split train is not whole" in line for line in rules.broken("tokens", tmp_path / "rows"))


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"splits": {"train": {"x": 1}}})])
def test_a_damaged_manifest_is_said_in_three_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(UserError, match=r"rows.json cannot be read\n  because: (.|\n)*try: run the stage"):
        examples.info(tmp_path)


def test_a_row_has_a_weight_for_each_token() -> None:
    with pytest.raises(Fault, match="'d' has 3 tokens and 2 weights"):
        Row("d", 0, 0, np.zeros(3, np.int32), np.zeros(2, np.float32))
