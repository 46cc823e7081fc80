"""The loader of a mixture over real files of Megatron's layout: every token once in each epoch of its source, the same
batches for any number of ranks and from any step on, no segment over the end of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lmgraft.artifacts.tokens import SplitCount, TokensInfo, TokenWriter, token_dtype
from lmgraft.seams.objective import Batch
from lmgraft.training.blend import Blend
from lmgraft.training.loader import Loader, MixedLoader, PackedDataset

END, PAD, VOCABULARY = 0, 1, 70_000
FIELDS = ("tokens", "targets", "weights", "positions", "segments")
#: Tokens of a source begin at these ids, each a token of its own: an id tells its source, document and place.
FIRST = (2, 20_000, 40_000)
SEQ_LEN = 16
WEIGHTS = [0.5, 0.2, 0.3]


def pack(folder: Path, first: int, lengths: list[int]) -> list[int]:
    """Writes a training split and returns its stream, end tokens included."""
    ids, stream = iter(range(first, first + 20_000)), []
    folder.mkdir(parents=True)
    with TokenWriter(folder / "train", token_dtype(VOCABULARY), END) as writer:
        for length in lengths:
            document = [next(ids) for _ in range(length)]
            writer.add(document)
            stream += [*document, END]
    counts = {"train": SplitCount(writer.documents, writer.tokens, 1, 1)}
    TokensInfo(VOCABULARY, "int32", "f", END, PAD, counts).write(folder)
    return stream


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def streams(root: Path) -> list[list[int]]:
    """Three sources of other sizes; one has documents longer than a sequence, one has empty ones."""
    chance = np.random.default_rng(1)
    lengths = [chance.integers(0, 30, 60).tolist(), [200, 3, 150, 1], [0, 0, 5, 70] * 5]
    return [pack(root / str(number), FIRST[number], own) for number, own in enumerate(lengths)]


@pytest.fixture
def loader(root: Path, streams: list[list[int]]) -> Callable[..., MixedLoader]:
    def make(batch: int = 7, seed: int = 3, weights: list[float] | None = None) -> MixedLoader:
        """A new one each time, with nothing in common but the files."""
        datasets = [PackedDataset(root / str(number), "train", SEQ_LEN) for number in range(len(streams))]
        return MixedLoader(datasets, Blend(weights or WEIGHTS, seed), batch, seed)

    return make


def rows(batches: list[Batch]) -> list[tuple[tuple[float, ...], ...]]:
    """Every row with all its fields, rows that hold nothing left out, in order."""
    return [
        tuple(tuple(getattr(batch, name)[row].tolist()) for name in FIELDS)
        for batch in batches
        for row in range(len(batch.tokens))
        if batch.weights[row].any()
    ]


def owner(row: tuple[tuple[float, ...], ...]) -> int:
    """The source that a row is of."""
    ids = {int(one) for one in (*row[0], *row[1]) if one not in (END, PAD, -1)}
    found = {sum(one >= first for first in FIRST) - 1 for one in ids}
    assert len(found) == 1, "a row is of one source"
    return found.pop()


@pytest.mark.parametrize("batch", [1, 5, 7, 8])
def test_ranks_read_one_batch_between_them(loader: Callable[..., MixedLoader], batch: int) -> None:
    for step in (0, 1, 13, 250):
        whole = rows(loader(batch).microbatches(step))
        assert len(whole) == batch
        for size in (2, 3, 4):
            shares = [loader(batch).microbatches(step, rank, size, 2) for rank in range(size)]
            each = [rows(share) for share in shares]
            assert [each[index % size][index // size] for index in range(batch)] == whole
            assert sum(map(len, each)) == batch
            assert len({tuple(one.tokens.shape for one in share) for share in shares}) == 1


def test_resumed_anywhere_it_reads_what_it_would_have_read(loader: Callable[..., MixedLoader]) -> None:
    unbroken = loader()
    through = [rows(unbroken.microbatches(step)) for step in range(60)]
    for resumed in (1, 30, 59):
        again = loader()
        assert [rows(again.microbatches(step)) for step in range(resumed, 60)] == through[resumed:]
    assert [rows(loader(seed=4).microbatches(step)) for step in range(60)] != through


def test_every_token_of_every_document_once_in_each_epoch_of_its_source(
    loader: Callable[..., MixedLoader], streams: list[list[int]]
) -> None:
    """Read by four ranks to the end of the second epoch of the last source, and each source for itself at that."""
    mixed = loader(batch=6)
    sizes = [len(source) for source in mixed.sources]
    seen: list[list[tuple[tuple[float, ...], ...]]] = [[], [], []]
    step = 0
    while any(len(own) < 2 * size for own, size in zip(seen, sizes, strict=True)):
        each = [rows(mixed.microbatches(step, rank, 4, 1)) for rank in range(4)]
        for index in range(6):  # in the order of the stream
            row = each[index % 4][index // 4]
            seen[owner(row)].append(row)
        step += 1
    for own, size, stream in zip(seen, sizes, streams, strict=True):
        for epoch in range(len(own) // size):
            part = own[epoch * size : (epoch + 1) * size]
            targets = Counter(int(one) for row in part for one in row[1] if one != -1)
            assert targets == Counter(stream)
        assert own[:size] != own[size : 2 * size]
    assert [round(share, 3) for share in mixed.epochs(step)] == [
        round(len(own) / size, 3) for own, size in zip(seen, sizes, strict=True)
    ]


def test_by_tokens_all_sources_come_round_together(
    loader: Callable[..., MixedLoader], streams: list[list[int]]
) -> None:
    datasets = loader().sources
    mixed = loader(batch=1, weights=[len(source) for source in datasets])
    steps = sum(len(source) for source in datasets)
    targets = Counter(int(one) for step in range(steps) for row in rows(mixed.microbatches(step)) for one in row[1])
    del targets[-1]
    assert targets == Counter(one for stream in streams for one in stream)
    assert mixed.epochs(steps) == [1, 1, 1]


def test_no_segment_goes_over_the_end_of_a_document(
    loader: Callable[..., MixedLoader], streams: list[list[int]]
) -> None:
    """Within a segment the targets are one stretch of one document, and the inputs what stands before them."""
    documents: dict[int, tuple[int, int]] = {}
    for number, stream in enumerate(streams):
        document = 0
        for one in stream:
            if one == END:
                document += 1
            else:
                documents[one] = (number, document)
    mixed = loader()
    for step in range(40):
        for tokens, targets, _, positions, segments in rows(mixed.microbatches(step)):
            for segment in set(segments) - {-1.0}:
                at = [index for index in range(SEQ_LEN) if segments[index] == segment]
                assert [positions[index] for index in at] == list(range(len(at)))
                assert len({documents[int(targets[index])] for index in at if targets[index] != END}) <= 1
                assert [tokens[index] for index in at[1:]] == [targets[index] for index in at[:-1]]
                assert END not in [tokens[index] for index in at[1:]]


def test_the_first_source_has_the_order_it_has_alone(loader: Callable[..., MixedLoader], root: Path) -> None:
    alone = Loader(PackedDataset(root / "0", "train", SEQ_LEN), 1, 3)
    mixed = [row for step in range(80) for row in rows(loader(1).microbatches(step)) if owner(row) == 0]
    assert mixed == [rows(alone.microbatches(step))[0] for step in range(len(mixed))]


def test_sources_of_one_size_have_orders_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        pack(tmp_path / str(number), FIRST[number], [100] * 8)
    datasets = [PackedDataset(tmp_path / str(number), "train", SEQ_LEN) for number in range(2)]
    sources, samples = MixedLoader(datasets, Blend([1, 1], 0), 100, 0).samples(0)
    assert samples[sources == 0].tolist() != samples[sources == 1].tolist()
