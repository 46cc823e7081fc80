"""Best-fit packing: every row once, none cut, none seeing another, whatever the ranks; memory that rows do not fill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts.examples import Row
from lmgraft.seams.objective import Batch
from lmgraft.training import laying
from lmgraft.training.examples import ExampleLoader, Examples
from lmgraft.training.loader import NOTHING
from lmgraft.training.packing import PackedExamples, best_fit, filled_unpacked

PAD, WIDTH = 999, 24


def write(path: Path, rows: list[Row]) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, laying.SCHEMA) as writer:
        for start in range(0, len(rows), 7):
            writer.write_batch(laying._batch(rows[start : start + 7]))
    laying.notes(path).write_text('{"values": []}')
    return path


def row(unit: int, length: int) -> Row:
    """Predicts ``length`` tokens; no id comes twice in the file."""
    ids = unit * 100 + np.arange(length + 1)
    return Row(f"d{unit}", unit, 0, ids.astype(np.int32), (ids % 3).astype(np.float32))


LENGTHS = [int(length) for length in np.random.default_rng(4).integers(1, WIDTH + 1, 83)]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    rows = [row(unit, length) for unit, length in enumerate(LENGTHS)]
    return Examples(write(tmp_path_factory.mktemp("rows") / "train.arrow", rows), PAD)


# --- which rows share a sequence --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=200), st.integers(40, 64))
def test_each_row_is_in_one_sequence_and_no_sequence_is_too_full(lengths: list[int], capacity: int) -> None:
    sizes = np.array(lengths, np.int64)
    bins = best_fit(sizes, capacity)
    assert sorted(bins.rows.tolist()) == list(range(len(lengths)))
    parts = [bins.rows[a:b] for a, b in zip(bins.starts[:-1], bins.starts[1:], strict=True)]
    assert all(0 < sizes[part].sum() <= capacity for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_each_row_goes_where_the_least_room_is_left(lengths: list[int]) -> None:
    sizes, capacity = np.array(lengths, np.int64), 30
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [room for room in rooms if room >= length]
        if fits:
            rooms.remove(min(fits))
            rooms.append(min(fits) - length)
        else:
            rooms.append(capacity - length)
    bins = best_fit(sizes, capacity)
    found = capacity - np.add.reduceat(sizes[bins.rows], bins.starts[:-1])
    assert sorted(found.tolist()) == sorted(rooms)


def test_it_fills_what_real_lengths_leave(examples: Examples) -> None:
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(5, 0.8, 20_000).astype(np.int64), 1, 2048)
    assert sizes.sum() / (len(best_fit(sizes, 2048)) * 2048) > 0.999
    packed = PackedExamples(examples, WIDTH)
    assert packed.filled == sum(LENGTHS) / (len(packed) * WIDTH)
    assert filled_unpacked(examples, 8, None, 0) < filled_unpacked(examples, 8, 2, 0) < packed.filled
    assert filled_unpacked(examples, 1, None, 0) == 1


# --- as batches -------------------------------------------------------------------------------------------------------


def segments_of(batch: Batch) -> list[tuple[list[int], list[int], list[float]]]:
    """(tokens with the last one, positions, weights) of each row that stands in the batch."""
    assert batch.segments is not None
    found = []
    for line in range(len(batch.tokens)):
        for segment in range(int(batch.segments[line].max()) + 1):
            there = batch.segments[line] == segment
            columns = there.nonzero()[:, 0]
            assert columns.tolist() == list(range(int(columns[0]), int(columns[-1]) + 1))
            tokens, targets = batch.tokens[line, there], batch.targets[line, there]
            assert torch.equal(tokens[1:], targets[:-1])
            found.append(
                (
                    [*tokens.tolist(), int(targets[-1])],
                    batch.positions[line, there].tolist(),
                    batch.weights[line, there].tolist(),
                )
            )
    return found


def test_rows_stand_side_by_side_with_their_own_positions_and_weights(examples: Examples) -> None:
    packed = PackedExamples(examples, WIDTH)
    batch = packed.batch(np.arange(len(packed)))
    assert batch.tokens.shape == (len(packed), WIDTH)
    assert (batch.unit, batch.role, dict(batch.values)) == (None, None, {})
    found = {tokens[0] // 100: (tokens, positions, weights) for tokens, positions, weights in segments_of(batch)}
    assert len(found) == len(LENGTHS)
    for unit, length in enumerate(LENGTHS):
        tokens, positions, weights = found[unit]
        assert tokens == list(range(100 * unit, 100 * unit + length + 1))
        assert positions == list(range(length))
        assert weights == [float(token % 3) for token in tokens[1:]]
    assert batch.segments is not None
    padding = batch.segments < 0
    assert (batch.tokens[padding] == PAD).all()
    assert (batch.targets[padding] == -1).all()
    assert not batch.weights[padding].any()
    assert not batch.positions[padding].any()
    nothing = packed.batch(np.array([NOTHING]))
    assert (nothing.targets == -1).all()
    assert nothing.segments is not None
    assert (nothing.segments == -1).all()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_epoch_reads_every_row_once_whatever_the_ranks(
    examples: Examples, size: int, micro_batch: int | None
) -> None:
    packed = PackedExamples(examples, WIDTH)
    batch = next(n for n in (5, 6, 7, 8) if len(packed) % n == 0 or n == 8)
    loader = ExampleLoader(packed, batch, seed=3)
    whole = ExampleLoader(PackedExamples(examples, WIDTH), batch, seed=3)
    seen: list[int] = []
    for step in range(-(-len(packed) // batch)):
        shares = [loader.microbatches(step, rank, size, micro_batch) for rank in range(size)]
        rows = sorted(tokens for share in shares for part in share for tokens, _, _ in segments_of(part))
        assert rows == sorted(tokens for part in whole.microbatches(step) for tokens, _, _ in segments_of(part))
        assert loader.tokens(step) == sum(len(tokens) - 1 for tokens in rows)
        seen += [tokens[0] // 100 for tokens in rows]
    first = seen[: len(LENGTHS)] if len(packed) % batch == 0 else seen
    assert sorted(set(first)) == list(range(len(LENGTHS)))
    order = [tuple(loader.units(step).tolist()) for step in range(40)]
    assert order == [tuple(ExampleLoader(packed, batch, seed=3).units(step).tolist()) for step in range(40)]
    epoch = np.concatenate([loader.units(step) for step in range(len(packed))])[: len(packed) * batch]
    for start in range(0, len(epoch), len(packed)):
        assert sorted(epoch[start : start + len(packed)].tolist()) == list(range(len(packed)))
    assert epoch[: len(packed)].tolist() != epoch[len(packed) : 2 * len(packed)].tolist()


def test_held_out_rows_are_the_same_ones_packed_and_not(examples: Examples) -> None:
    chosen = examples.spread(200)
    packed = PackedExamples(examples, WIDTH, chosen)
    rows = sorted(tokens for batch in packed.some(3) for tokens, _, _ in segments_of(batch))
    assert rows == sorted(tokens for batch in examples.some(3, 200) for tokens, _, _ in segments_of(batch))
    assert 0 < len(rows) < len(LENGTHS)


def test_units_of_several_sequences_are_packed_sequence_by_sequence(tmp_path: Path) -> None:
    rows = [Row(f"d{n // 2}", n // 2, n % 2, row(n, 5).tokens, row(n, 5).weights) for n in range(6)]
    held = Examples(write(tmp_path / "train.arrow", rows), PAD)
    assert len(held) == 3
    packed = PackedExamples(held, WIDTH, np.array([0, 2]))
    assert len(segments_of(packed.batch(np.arange(len(packed))))) == 4


# --- memory -----------------------------------------------------------------------------------------------------------

GROWTH = """
import resource, sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
from lmgraft.artifacts.examples import Row, RowCount, EncodedBy, RowsInfo, ShardWriter, shard_name
from lmgraft.training.examples import ExampleLoader, Examples
from lmgraft.training.laying import Encoding, encode
from lmgraft.training.packing import PackedExamples

folder, count = Path(sys.argv[1]), int(sys.argv[2])
writer = ShardWriter(folder / shard_name("train", 0, 1))
rng = np.random.default_rng(0)
for unit in range(count):
    ids = rng.integers(0, 30000, int(rng.integers(50, 350))).astype(np.int32)
    writer.add(Row(str(unit), unit, 0, ids, np.ones(len(ids), np.float32)))
writer.close()
by = EncodedBy("sft", "", 1, {})
RowsInfo(30000, "f", 0, 1, "c", by, [], {"train": RowCount(count, count, count)}).write(folder)


class Bar:
    def advance(self, amount=1, **shown):
        pass


saved = SimpleNamespace(vocab_size=30000)
how = Encoding(corpus=folder, split="train", objective=None, tokenizer=saved, seq_len=512, stage="sft")
encode(how, folder / "train.arrow", lambda title, total: nullcontext(Bar()))
loader = ExampleLoader(PackedExamples(Examples(folder / "train.arrow", 1), 512), 16, seed=0)
for step in range(30):
    loader.microbatches(step)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shared = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "RssFile" in line)
print(peak, shared, (folder / "train.arrow").stat().st_size >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Reading, laying out, packing and training on 2 and on 30 thousand rows (48 MB): what is mapped does not count,
    since the system takes it back where it needs to."""
    used = []
    for count in (2_000, 30_000):
        (tmp_path / str(count)).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", GROWTH, str(tmp_path / str(count)), str(count)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak, shared, size = map(int, done.stdout.split())
        used.append((peak - shared, size))
    assert used[1][0] - used[0][0] < (used[1][1] - used[0][1]) / 2
