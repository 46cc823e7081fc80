"""The spool against Arrow's own sort, and its memory."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft import spool as spool_module
from lmgraft.errors import Fault
from lmgraft.spool import Spool

SCHEMA = pa.schema([("key", pa.int64()), ("name", pa.string()), ("score", pa.float64()), ("position", pa.int64())])
TINY_MB = 0.002

rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-3, 3)),
        st.one_of(st.none(), st.text(max_size=3)),
        st.one_of(st.none(), st.floats(width=16)),
    ),
    max_size=200,
)


def table_of(values: list[tuple[object, object, object]]) -> pa.Table:
    columns = list(zip(*values, strict=True)) or [[], [], []]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=False)]
    return pa.table([*arrays, pa.array(range(len(values)), pa.int64())], schema=SCHEMA)


def spooled(
    folder: Path, table: pa.Table, order: list[str], memory_mb: float, chunk: int = 7
) -> list[dict[str, object]]:
    spool = Spool(folder / "spool", table.schema, memory_mb)
    for batch in table.to_batches(max_chunksize=chunk):
        spool.append(batch)
    result = spool.sort(order)
    assert result.rows == table.num_rows
    return [row for batch in result.batches() for row in batch.to_pylist()]


def expected(table: pa.Table, order: list[str]) -> list[dict[str, object]]:
    # The position says in which order rows were added: as the last key it spells out what stable means.
    keys = [(name, "ascending") for name in (*order, "position")]
    return table.take(pc.sort_indices(table, sort_keys=keys)).to_pylist()


@settings(max_examples=30, deadline=None)
@given(values=rows, order=st.permutations(["key", "name", "score"]), memory_mb=st.sampled_from([TINY_MB, 1.0]))
def test_sorts_as_arrow_does_and_is_stable(values: list, order: list[str], memory_mb: float) -> None:
    table = table_of(values)
    with tempfile.TemporaryDirectory() as folder:
        # repr: NaN is not equal to itself.
        assert repr(spooled(Path(folder), table, order, memory_mb)) == repr(expected(table, order))


@pytest.mark.parametrize("distinct", [1, 2, 50_000])
def test_many_runs_with_any_skew(tmp_path: Path, distinct: int) -> None:
    chance = random.Random(distinct)
    count = 8_000
    values = [(chance.randrange(distinct), "x", 0.0) for _ in range(count)]
    table = table_of(values)
    assert spooled(tmp_path, table, ["key"], 0.05, chunk=500) == expected(table, ["key"])


def test_nan_and_null_come_last_in_any_run(tmp_path: Path) -> None:
    kinds = [1.5, math.nan, None, -math.inf, -1.0]
    table = table_of([(0, "x", kinds[i % 5 if i % 3 else 1]) for i in range(500)])
    assert repr(spooled(tmp_path, table, ["score"], TINY_MB)) == repr(expected(table, ["score"]))


def test_merges_in_passes_when_there_are_more_runs_than_it_may_open(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(spool_module, "FAN_IN", 3)
    table = table_of([((i * 7919) % 1000, "x", 0.0) for i in range(3000)])
    assert spooled(tmp_path, table, ["key"], TINY_MB) == expected(table, ["key"])
    assert len(list((tmp_path / "spool").glob("run-*.arrow"))) <= 3


def test_adopted_files_stay_and_keep_their_place(tmp_path: Path) -> None:
    table = table_of([(5, "a", 0.0), (1, "b", 0.0), (5, "c", 0.0), (1, "d", 0.0)])
    path = tmp_path / "made-elsewhere.arrow"
    with pa.ipc.new_file(str(path), SCHEMA) as writer:
        writer.write_table(table.slice(0, 2))
    spool = Spool(tmp_path / "spool", SCHEMA, 1)
    spool.adopt(path)
    spool.append(table.slice(2).to_batches()[0])
    result = spool.sort(["key"])
    for _ in range(2):
        assert [row["name"] for batch in result.batches() for row in batch.to_pylist()] == ["b", "d", "a", "c"]
    assert path.exists()


def rows_of(runs: spool_module.SortedRuns) -> list[dict]:
    return [row for batch in runs.batches() for row in batch.to_pylist()]


def test_kept_runs_are_not_sorted_again(tmp_path: Path, monkeypatch) -> None:
    """Stopped after any run it goes on from the runs it finds; with other settings it begins anew."""
    monkeypatch.setattr(spool_module, "FAN_IN", 3)
    table = table_of([((i * 7919) % 1000, "x", 0.0) for i in range(2000)])
    path = tmp_path / "rows.arrow"
    with pa.ipc.new_file(str(path), SCHEMA) as writer:
        writer.write_table(table)
    made: list[str] = []

    class Stop(Exception):
        pass

    def patient(runs):
        """Gets through what is there, and does two more."""
        left = 2
        for run in runs:
            if not run.path.exists():
                if not left:
                    raise Stop
                left -= 1
                made.append(run.path.name)
            yield spool_module.make_run(None, run)

    def attempt(order, make, sorters=1):
        spool = Spool(tmp_path / "spool", SCHEMA, TINY_MB, sorters=sorters, kept=True)
        spool.adopt(path)
        return spool.sort(order, make)

    with pytest.raises(Stop):
        attempt(["score"], patient)
    made.clear()
    for _ in range(500):
        assert spool_module.kept_runs(tmp_path / "spool", SCHEMA, ["key"]) is None
        try:
            found = attempt(["key"], patient)
        except Stop:
            continue
        break
    assert len(made) == len(set(made)) > 10
    assert {name.split("-")[1] for name in made} >= {"0", "1", "2"}
    again = spool_module.kept_runs(tmp_path / "spool", SCHEMA, ["key"])
    assert again is not None
    assert again.rows == 2000
    assert rows_of(found) == rows_of(again) == expected(table, ["key"])
    assert rows_of(attempt(["key"], None, sorters=2)) == expected(table, ["key"])


def test_empty(tmp_path: Path) -> None:
    assert spooled(tmp_path, table_of([]), ["key"], 1) == []


def test_refuses_other_columns(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SCHEMA, 1)
    with pytest.raises(Fault, match="columns"):
        spool.append(pa.record_batch({"key": [1]}))
    with pytest.raises(Fault, match="nothing"):
        spool.sort(["nothing"])


MEASURE = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from lmgraft.spool import Spool
schema = pa.schema([("key", pa.int64()), ("position", pa.int64())])
spool = Spool(Path(sys.argv[1]), schema, 16)
rows = 1 << 17
for i in range(32):
    keys = np.zeros(rows, np.int64) if sys.argv[2] == "same" else np.random.default_rng(i).integers(0, 1 << 60, rows)
    spool.append(pa.record_batch([pa.array(keys), pa.array(np.arange(rows) + i * rows)], schema=schema))
last, seen = None, 0
for batch in spool.sort(["key"]).batches():
    keys = batch.column("key").to_numpy()
    assert (np.diff(keys) >= 0).all() and (last is None or keys[0] >= last)
    last, seen = keys[-1], seen + len(keys)
assert seen == 32 * rows
print(pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize("keys", ["same", "random"])
def test_64_mb_are_sorted_within_16(tmp_path: Path, keys: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "spool"), keys]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 << 20
