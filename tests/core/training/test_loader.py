"""The loader: every token once an epoch, the same for any ranks and at any step, and segments as documented."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts.tokens import SplitCount, TokensInfo, TokenWriter, token_dtype
from lmgraft.artifacts.tokens import info as tokens_info
from lmgraft.errors import UserError
from lmgraft.seams.objective import Batch
from lmgraft.training.loader import NOTHING, Loader, PackedDataset, permute, validation_batches

END, PAD = 0, 1
FIELDS = ("tokens", "targets", "weights", "positions", "segments")


def pack(folder: Path, documents: list[list[int]], split: str = "train") -> Path:
    """Token ids beyond the vocabulary are fine here: each one says which token of the split it is."""
    with TokenWriter(folder / split, token_dtype(70_000), END) as writer:
        for document in documents:
            writer.add(document)
    counts = {split: SplitCount(writer.documents, writer.tokens, 1, 1)}
    TokensInfo(70_000, "int32", "f", END, PAD, counts).write(folder)
    return folder


def numbered(lengths: list[int]) -> list[list[int]]:
    ids = iter(range(2, 70_000))
    return [[next(ids) for _ in range(length)] for length in lengths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lengths = np.random.default_rng(0).integers(0, 30, 60).tolist()
    return pack(tmp_path_factory.mktemp("tokens"), numbered(lengths))


def joined(batches: list[Batch], name: str = "targets") -> list[int]:
    return [value for batch in batches for value in getattr(batch, name).flatten().tolist()]


def rows(batches: list[Batch]) -> list[tuple[tuple[float, ...], ...]]:
    """Every row with all its fields, rows that hold nothing left out, sorted."""
    found = []
    for batch in batches:
        for row in range(len(batch.tokens)):
            if batch.weights[row].any():
                found.append(tuple(tuple(getattr(batch, name)[row].tolist()) for name in FIELDS))
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**64), st.integers(0, 5))
def test_permute_is_a_bijection(size: int, seed: int, epoch: int) -> None:
    result = permute(np.arange(size), size, seed, epoch)
    assert sorted(result.tolist()) == list(range(size))
    some = np.array([0, size // 2, size - 1])
    assert permute(some, size, seed, epoch).tolist() == result[some].tolist()


def test_permute_shuffles() -> None:
    one, two, other = (permute(np.arange(10_000), 10_000, *key) for key in ((1, 0), (1, 1), (2, 0)))
    assert (one != two).mean() > 0.99
    assert (one != other).mean() > 0.99
    for order in (one, two, other):
        assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    # Small sets take every order: all six of three, about equally often.
    orders = [tuple(permute(np.arange(3), 3, seed, 0).tolist()) for seed in range(600)]
    assert len(set(orders)) == 6
    assert min(orders.count(order) for order in set(orders)) > 60


@pytest.mark.parametrize("seq_len", [1, 7, 64, 5000])
def test_every_token_is_a_target_once_an_epoch(folder: Path, seq_len: int) -> None:
    dataset = PackedDataset(folder, "train", seq_len)
    loader = Loader(dataset, batch=1, seed=3)
    stream = dataset.file.window(0, dataset.tokens).tolist()
    for epoch in range(2):
        steps = range(epoch * len(dataset), (epoch + 1) * len(dataset))
        seen = joined([batch for step in steps for batch in loader.microbatches(step)])
        assert sorted(target for target in seen if target >= 0) == sorted(stream)


def test_inputs_precede_their_targets(folder: Path) -> None:
    dataset = PackedDataset(folder, "train", 16)
    stream = [END, *dataset.file.window(0, dataset.tokens).tolist()]
    batch = dataset.batch(np.arange(len(dataset)))
    count = len(stream) - 1
    assert batch.tokens.flatten().tolist()[:count] == stream[:-1]
    assert batch.targets.flatten().tolist()[:count] == stream[1:]
    assert set(batch.tokens.flatten().tolist()[count:]) == {PAD}
    assert set(batch.targets.flatten().tolist()[count:]) == {-1}
    assert batch.weights.flatten().tolist() == [1.0] * count + [0.0] * (len(dataset) * 16 - count)
    kinds = [getattr(batch, name).dtype for name in FIELDS]
    assert kinds == [torch.int64, torch.int64, torch.float32, torch.int64, torch.int64]


def test_a_segment_begins_at_the_end_token(tmp_path: Path) -> None:
    dataset = PackedDataset(pack(tmp_path, [[10, 11], [], [20, 21, 22, 23], [30]]), "train", 8)
    batch = dataset.batch(np.array([0, 1, -1]))
    assert batch.tokens.tolist() == [[0, 10, 11, 0, 0, 20, 21, 22], [23, 0, 30] + [1] * 5, [1] * 8]
    assert batch.targets.tolist() == [[10, 11, 0, 0, 20, 21, 22, 23], [0, 30, 0] + [-1] * 5, [-1] * 8]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 1, 2, 2, 2, 2], [0, 1, 1] + [-1] * 5, [-1] * 8]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3], [0, 0, 1] + [0] * 5, [0] * 8]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 11))
def test_segments_are_a_reference_token_by_token(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seq_len: int
) -> None:
    dataset = PackedDataset(pack(tmp_path_factory.mktemp("t"), numbered(lengths)), "train", seq_len)
    owners = [number for number, length in enumerate(lengths) for _ in range(length + 1)]  # of END + document
    for sample in range(len(dataset)):
        batch = dataset.batch(np.array([sample]))
        here = owners[sample * seq_len : (sample + 1) * seq_len]
        segments, positions = [0] * bool(here), [0] * bool(here)
        for before, now in pairwise(here):
            segments.append(segments[-1] + (now != before))
            positions.append(0 if now != before else positions[-1] + 1)
        padding = seq_len - len(here)
        assert batch.segments is not None
        assert batch.segments[0].tolist() == segments + [-1] * padding
        assert batch.positions[0].tolist() == positions + [0] * padding


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_ranks_share_one_batch(folder: Path, size: int, micro_batch: int | None) -> None:
    loader = Loader(PackedDataset(folder, "train", 16), batch=6, seed=0)
    for step in (0, 7, 40):
        whole = rows(loader.microbatches(step))
        shares = [loader.microbatches(step, rank, size, micro_batch) for rank in range(size)]
        assert rows([batch for share in shares for batch in share]) == whole
        assert len(whole) == 6
        assert len({tuple(batch.tokens.shape for batch in share) for share in shares}) == 1


def test_a_step_does_not_depend_on_the_steps_before(folder: Path) -> None:
    dataset = PackedDataset(folder, "train", 16)
    through = [Loader(dataset, 4, 5).microbatches(step) for step in range(30)]
    for step in (29, 3):
        again = Loader(PackedDataset(folder, "train", 16), 4, 5).microbatches(step)
        assert joined(again, "tokens") == joined(through[step], "tokens")
    assert joined(through[0]) != joined(Loader(dataset, 4, 6).microbatches(0))


def test_another_process_reads_the_same_order(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lmgraft.training.loader import *\n"
        f"loader = Loader(PackedDataset(Path({str(folder)!r}), 'train', 16), 4, 5)\n"
        "print([loader.samples(step).tolist() for step in range(30)])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loader = Loader(PackedDataset(folder, "train", 16), 4, 5)
    assert run.stdout.strip() == str([loader.samples(step).tolist() for step in range(30)])


def test_the_order_is_pinned() -> None:
    """A run that was begun with an older version goes on in the same order."""
    assert permute(np.arange(10), 10, 42, 0).tolist() == [6, 1, 4, 3, 5, 9, 7, 2, 0, 8]


def test_epochs(folder: Path) -> None:
    loader = Loader(PackedDataset(folder, "train", 16), batch=8, seed=0)
    size = loader.samples_per_epoch
    assert size == len(loader.dataset)
    assert loader.epoch_of(0) == 0
    assert loader.epoch_of(size) == 8
    steps = -(-2 * size // 8)  # two epochs and a bit; an epoch ends within a batch
    order = np.concatenate([loader.samples(step) for step in range(steps)])
    assert sorted(order[:size].tolist()) == sorted(order[size : 2 * size].tolist()) == list(range(size))
    assert order[:size].tolist() != order[size : 2 * size].tolist()


def test_validation_takes_all_or_an_even_spread(folder: Path) -> None:
    dataset = PackedDataset(folder, "train", 16)
    stream = dataset.file.window(0, dataset.tokens).tolist()
    for limit in (None, dataset.tokens):
        assert [t for t in joined(list(validation_batches(dataset, 4, limit))) if t >= 0] == stream
    some = list(validation_batches(dataset, 4, 160))
    assert [len(batch.tokens) for batch in some] == [4, 4, 2]
    assert all(batch.weights.all() for batch in some)
    starts = [16 * (number * dataset.full // 10) for number in range(10)]
    assert joined(some) == [target for start in starts for target in stream[start : start + 16]]
    assert joined(list(validation_batches(dataset, 7, 160))) == joined(some)
    assert len(joined(list(validation_batches(dataset, 4, 1)))) == 16
    shares = [list(validation_batches(dataset, 2, 160, rank, 4)) for rank in range(4)]
    assert rows([batch for share in shares for batch in share]) == rows(some)
    assert {len(share) for share in shares} == {2}


def test_a_split_shorter_than_a_window_is_padded(tmp_path: Path) -> None:
    dataset = PackedDataset(pack(tmp_path, [[5, 6]]), "train", 8)
    (batch,) = validation_batches(dataset, 4, 2)
    assert batch.targets.tolist() == [[5, 6, 0, -1, -1, -1, -1, -1]]


def test_files_of_another_folder_are_user_errors(tmp_path: Path) -> None:
    for name, lengths in (("one", [3, 4]), ("two", [3, 5])):
        (tmp_path / name).mkdir()
        pack(tmp_path / name, numbered(lengths))
    for suffix in (".bin", ".idx"):
        (tmp_path / f"two/train{suffix}").replace(tmp_path / f"one/train{suffix}")
    with pytest.raises(UserError) as caught:
        PackedDataset(tmp_path / "one", "train", 8)
    assert caught.value.render().splitlines() == [
        f"{tmp_path}/one/train.bin and .idx are not those of their folder",
        "  because: they hold 10 tokens, and tokens.json says 9",
        "  try: make the folder again: its files are not of one piece",
    ]


@pytest.mark.parametrize(("suffix", "damage"), [(".bin", 2), (".idx", 2), (".idx", -30)])
def test_files_cut_short_or_of_another_kind_are_user_errors(tmp_path: Path, suffix: str, damage: int) -> None:
    path = pack(tmp_path, numbered([30, 40])) / f"train{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[:-damage] if damage > 0 else b"IDX files of others" + whole[:damage])
    with pytest.raises(UserError) as caught:
        PackedDataset(tmp_path, "train", 8)
    assert f"{path} cannot be read" in caught.value.render()
    assert len(caught.value.render().splitlines()) == 3


def test_an_id_beyond_the_vocabulary_is_a_user_error_at_its_step(tmp_path: Path) -> None:
    dataset = PackedDataset(pack(tmp_path, [[5] * 20, [6] * 11 + [70_000] + [6] * 8]), "train", 8)
    dataset.batch(np.array([0, 1, 2, 3, 5, NOTHING]))
    with pytest.raises(UserError) as caught:
        dataset.batch(np.array([0, 4]))
    assert caught.value.render().splitlines() == [
        f"{tmp_path}/train.bin: token 32 is 70000",
        "  because: the vocabulary of tokens.json has the ids 0 to 69,999",
        "  try: make the folder again with the tokenizer that the model has",
    ]


def test_missing_and_empty_splits_are_user_errors(tmp_path: Path) -> None:
    pack(tmp_path, [])
    with pytest.raises(UserError, match="no split 'validation'"):
        PackedDataset(tmp_path, "validation", 8)
    with pytest.raises(UserError, match="is empty"):
        PackedDataset(tmp_path, "train", 8)


def begun_with(folder: Path, out: Path, first: int) -> Path:
    """The same files, of a tokenizer whose documents begin with another token than the end."""
    out.mkdir()
    for file in folder.glob("train.*"):
        (out / file.name).write_bytes(file.read_bytes())
    told = tokens_info(folder)
    TokensInfo(told.vocab_size, told.dtype, told.fingerprint, told.end_id, told.pad_id, told.splits, first).write(out)
    return out


def test_documents_begin_as_the_tokenizer_says(tmp_path: Path) -> None:
    """Only where a document is read for the first time: what is predicted, and all else, stays as it is."""
    (tmp_path / "plain").mkdir()
    plain = pack(tmp_path / "plain", [[5, 6, 7], [], [8, 9], [10], [11, 12, 13, 14]])
    dataset = PackedDataset(begun_with(plain, tmp_path / "begun", 3), "train", 4)
    found = dataset.rows(np.array([0, 1, 2, 3, NOTHING]))
    assert found.tokens.tolist() == [[3, 5, 6, 7], [3, 3, 8, 9], [3, 10, 3, 11], [12, 13, 14, PAD], [PAD] * 4]
    assert found.targets[:4].tolist() == [[5, 6, 7, 0], [0, 8, 9, 0], [10, 0, 11, 12], [13, 14, 0, -1]]


@pytest.mark.parametrize("length", [1, 7, 16, 1000])
def test_another_beginning_changes_nothing_else(folder: Path, tmp_path: Path, length: int) -> None:
    plain = PackedDataset(folder, "train", length)
    begun = PackedDataset(begun_with(folder, tmp_path / "begun", 69_999), "train", length)
    every = np.array([*range(len(plain)), NOTHING])
    one, two = plain.rows(every), begun.rows(every)
    ends = one.tokens == END
    assert ends.sum() == len(plain.file)
    assert (two.tokens[ends] == 69_999).all()
    assert (two.tokens[~ends] == one.tokens[~ends]).all()
    for name in ("targets", "positions", "segments"):
        assert (getattr(one, name) == getattr(two, name)).all()


def test_the_beginning_stands_in_the_manifest_where_it_is_another(folder: Path, tmp_path: Path) -> None:
    assert tokens_info(folder).first_id == END
    assert "first_id" not in (folder / "tokens.json").read_text()
    assert tokens_info(begun_with(folder, tmp_path / "begun", 3)).first_id == 3
