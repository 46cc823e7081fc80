"""Rows as batches: whole units, an order that is a function of seed and step, what is left out and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lmgraft.artifacts import reference
from lmgraft.artifacts.corpus import CorpusWriter, shard_name, to_batch
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Example
from lmgraft.training import laying
from lmgraft.training.examples import ExampleLoader, Examples
from lmgraft.training.laying import Encoding
from lmgraft.training.loader import NOTHING

PAD = 99


class Bar:
    def advance(self, amount: float = 1, **shown: Any) -> None: ...

    def total(self, total: float) -> None: ...


@contextmanager
def silent(title: str, total: int) -> Iterator[Bar]:
    yield Bar()


class Digits:
    """Two sequences a document: its digits, and their reverse; none of an empty one, and no letters."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)

    def values(self) -> frozenset[str]:
        return self.names

    def encode(self, document: Document, tokenizer: Any) -> list[Example]:
        from lmgraft.errors import Problem

        text = document.text or ""
        if text.isalpha():
            raise UserError(Problem(f"row {document.id!r} is no number", "letters", "use digits"))
        ids = [int(digit) for digit in text]
        weights = [float(index % 2) for index in range(len(ids))]
        return [Example(ids, weights), Example(ids[::-1], weights, 1)] if ids else []


TEXTS = ["12", "345", "6789", "55555", "", "0123456", "24", "1357"]


def write_corpus(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    with CorpusWriter(folder / shard_name("train", 0, 1), {"text"}) as writer:
        writer.write(to_batch([Document(id=f"d{n}", text=text) for n, text in enumerate(texts)], "s"))
    return folder


def how(folder: Path, texts: list[str] = TEXTS, objective: Digits | None = None, **settings: Any) -> Encoding:
    path = write_corpus(folder / "corpus", texts) if not (folder / "corpus").exists() else folder / "corpus"
    fields: dict[str, Any] = {"seq_len": 5, "stage": "sft", "tokenizer": SimpleNamespace(vocab_size=PAD + 1)}
    return Encoding(corpus=path, split="train", objective=objective or Digits(), **fields | settings)  # type: ignore[arg-type]


@pytest.fixture
def encoded(tmp_path: Path) -> Examples:
    laying.encode(how(tmp_path), tmp_path / "train.arrow", silent)
    return Examples(tmp_path / "train.arrow", PAD)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    told = laying.encode(how(tmp_path), tmp_path / "train.arrow", silent)
    assert (told.units, told.sequences, told.overlong, told.empty) == (6, 12, 1, 1)
    assert told.tokens == 2 * (1 + 2 + 3 + 4 + 1 + 3)
    assert laying.encode(how(tmp_path), tmp_path / "train.arrow", silent) == told
    assert not list(tmp_path.glob("*.partial"))


def test_a_batch_holds_whole_units_padded_at_the_right(encoded: Examples) -> None:
    batch = encoded.batch(np.array([1, NOTHING, 0]))
    assert batch.tokens.tolist() == [[3, 4], [5, 4], [PAD, PAD], [1, PAD], [2, PAD]]
    assert batch.targets.tolist() == [[4, 5], [4, 3], [-1, -1], [2, -1], [1, -1]]
    assert batch.weights.tolist() == [[1, 0], [1, 0], [0, 0], [1, 0], [1, 0]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0], [0, 0], [-1, -1], [0, -1], [0, -1]]
    assert batch.positions.tolist() == [[0, 1], [0, 1], [0, 0], [0, 0], [0, 0]]
    assert batch.unit is not None
    assert batch.role is not None
    assert (batch.unit.tolist(), batch.role.tolist()) == ([0, 0, -1, 2, 2], [0, 1, 0, 0, 1])


def rows_read(batches: list[Any]) -> list[list[int]]:
    rows = [row for batch in batches for row in batch.targets.tolist()]
    return sorted([token for token in row if token >= 0] for row in rows if max(row) >= 0)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_the_split_into_ranks_and_microbatches_changes_no_step(
    encoded: Examples, size: int, micro_batch: int | None
) -> None:
    loader = ExampleLoader(encoded, 4, seed=3)
    for step in range(5):
        whole = loader.microbatches(step)
        shares = [loader.microbatches(step, rank, size, micro_batch) for rank in range(size)]
        assert rows_read(whole) == rows_read([batch for share in shares for batch in share])
        assert len({len(share) for share in shares}) == 1
        assert loader.tokens(step) == sum(int((batch.targets >= 0).sum()) for batch in whole)


def test_an_epoch_reads_every_unit_once_and_the_next_one_in_another_order(encoded: Examples) -> None:
    loader = ExampleLoader(encoded, 2, seed=3)
    epochs = [np.concatenate([loader.units(step) for step in range(at, at + 3)]).tolist() for at in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 3
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert ExampleLoader(encoded, 2, seed=3).units(4).tolist() == loader.units(4).tolist()
    assert any(ExampleLoader(encoded, 2, seed=4).units(s).tolist() != loader.units(s).tolist() for s in range(9))


def test_more_units_than_a_block_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laying, "BLOCK", 2)
    texts = [f"{n:04d}" for n in range(7)]
    laying.encode(how(tmp_path, texts), tmp_path / "train.arrow", silent)
    held = Examples(tmp_path / "train.arrow", PAD)
    assert len(held._blocks) == 4
    for unit, text in enumerate(texts):
        assert held.sequence(2 * unit)[0].tolist() == [int(digit) for digit in text]
        assert held.document(2 * unit) == f"d{unit}"


def test_validation_takes_the_same_rows_spread_over_the_file(encoded: Examples) -> None:
    everything = [*encoded.some(2, 10_000)]
    assert sum(int((batch.targets >= 0).sum()) for batch in everything) == 28
    few = [*encoded.some(4, 10)]
    assert 0 < sum(int((batch.targets >= 0).sum()) for batch in few) < 28
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(few, encoded.some(4, 10), strict=True))


def test_overlong_rows_are_refused_where_that_is_set(tmp_path: Path) -> None:
    said = r"sft: train holds rows that are longer than seq_len=5: 1\n(.|\n)*'d5' \(6 tokens\)"
    with pytest.raises(UserError, match=said):
        laying.encode(how(tmp_path, refuse_overlong=True), tmp_path / "train.arrow", silent)
    assert not (tmp_path / "train.arrow").exists()


@pytest.mark.parametrize("texts", [["", ""], ["0123456789"]])
def test_nothing_left_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(UserError, match="split train gives no example"):
        laying.encode(how(tmp_path, texts), tmp_path / "train.arrow", silent)


def test_ids_past_the_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sft: row 'd2' holds id 7\n(.|\n)*ids 0 to 6(.|\n)*try: "):
        laying.encode(how(tmp_path, tokenizer=SimpleNamespace(vocab_size=7)), tmp_path / "train.arrow", silent)
    assert not (tmp_path / "train.arrow").exists()


@pytest.mark.parametrize(("bad", "shown"), [(3, 3), (4, 4), (5, 4), (50, 4)])
def test_refused_rows_are_shown_and_counted(tmp_path: Path, bad: int, shown: int) -> None:
    with pytest.raises(UserError) as caught:
        laying.encode(how(tmp_path, ["12", *["abc"] * bad]), tmp_path / "train.arrow", silent)
    said = str(caught.value)
    assert said.count("is no number") == shown
    assert (f"{bad} rows of train are refused" in said) == (bad > 4)
    assert "more of the same" not in said


# --- joined with a reference ------------------------------------------------------------------------------------------


def scored(folder: Path, rows: list[tuple[str, int, list[int], float | None]]) -> Path:
    folder.mkdir()
    columns = [
        [row[0] for row in rows],
        [row[1] for row in rows],
        [reference.digest(row[2], [float(index % 2) for index in range(len(row[2]))]) for row in rows],
        [row[3] for row in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, reference.SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=reference.SCHEMA), folder / "train.parquet")
    reference.ReferenceInfo("f", "c", {"train": len(rows)}).write(folder)
    assert not list(reference.verify(folder))
    return folder


ROWS: list[tuple[str, int, list[int], float | None]] = [
    ("d0", 0, [1, 2], -1.5), ("d0", 1, [2, 1], -2.5), ("d1", 0, [3, 4], -3.5), ("d1", 1, [4, 3], None),
    ("d2", 0, [5, 6], -5.5), ("d2", 1, [6, 5], -6.5),
]  # fmt: skip


def joined(tmp_path: Path, rows: list[tuple[str, int, list[int], float | None]]) -> Examples:
    plan = how(tmp_path, ["12", "34", "56"], Digits("reference"), reference=scored(tmp_path / "reference", rows))
    laying.encode(plan, tmp_path / "train.arrow", silent)
    return Examples(tmp_path / "train.arrow", PAD)


def test_the_reference_is_joined_and_unscored_units_are_left_out(tmp_path: Path) -> None:
    held = joined(tmp_path, ROWS)
    assert len(held) == 2
    assert held.batch(np.array([1, 0])).values["reference"].tolist() == [-5.5, -6.5, -1.5, -2.5]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS[:4], "row 'd2' is not in the reference's order(.|\n)*no further row"),
        ([*ROWS[:2], *ROWS[4:]], "row 'd1' is not in the reference's order(.|\n)*'d2' there"),
        ([ROWS[1], ROWS[0], *ROWS[2:]], "row 'd0' is not in the reference's order"),
        ([*ROWS[:2], ("d1", 0, [3, 5], -1.0), *ROWS[3:]], "row 'd1' is encoded unlike the reference's"),
    ],
)
def test_a_reference_of_other_rows_is_refused(
    tmp_path: Path, rows: list[tuple[str, int, list[int], float | None]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        joined(tmp_path, rows)
    assert not (tmp_path / "train.arrow").exists()
