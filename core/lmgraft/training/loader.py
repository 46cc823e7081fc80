"""The loader: which tokens each step reads, as a pure function of (seed, step, global index).

Nothing is kept between steps, so a run resumes at any step, and any number of ranks reads the same batches: no sample
is repeated or skipped.

**The stream.** A split is read as one stream that begins with an end token: ``end d0 end d1 end ...``. Sample i reads
stream positions ``[i * seq_len, (i + 1) * seq_len)`` and predicts the token after each. So every token of the file is
predicted exactly once an epoch, the last sample's missing rest is padding without weight, and the first token of every
document is predicted from an end token, which is how the evaluator asks for it.

**Segments.** The end token stands on both sides of a document: predicted by the last token of the document before it,
and read as the *first* token of the document after it. In an input row a new segment therefore begins *at* the end
token, with position 0; attention within a segment never reaches the document before. Padding has segment -1.

**The order.** Epoch e visits the samples in the order of a keyed bijection on ``0 .. n - 1`` (:func:`permute`), which
needs no memory and no state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmgraft.artifacts import tokens
from lmgraft.errors import Problem, UserError
from lmgraft.seams.objective import Batch

__all__ = ["Loader", "PackedDataset", "permute", "validation_batches"]

ROUNDS = 8

#: A row that holds nothing: it evens out the ranks' shares.
NOTHING = -1

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def permute(index: Ints, size: int, seed: int, epoch: int) -> Ints:
    """Where the samples ``index`` (n,) of an epoch lie: a bijection on ``0 .. size - 1``, (n,) int64.

    A balanced Feistel network (Luby and Rackoff 1988) of eight rounds over the smallest even number of bits that holds
    ``size``; what falls outside is walked along its cycle until it falls inside (Black and Rogaway 2002, section 3).
    The round function is the finaliser of splitmix64; it makes a good shuffle, not a cipher.
    """
    if size <= 1:
        return np.zeros_like(index)
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    result = _feistel(index.astype(np.uint64), half, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half, keys)
    return result.astype(np.int64)


def _keys(seed: int, epoch: int) -> Words:
    digest = hashlib.blake2b(f"lmgraft order {seed} {epoch}".encode(), digest_size=8 * ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _feistel(values: Words, half: int, keys: Words) -> Words:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(x: Words) -> Words:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class PackedDataset:
    """The samples of a split: windows of ``seq_len`` predictions over its stream (see the module's docstring)."""

    def __init__(self, path: Path, split: str, seq_len: int) -> None:
        """``path`` is a folder of packed tokens. Raises :class:`~lmgraft.errors.UserError` where the split is absent
        or empty."""
        held = tokens.info(path)
        if split not in held.splits:
            fact = f"{path} holds no split {split!r}"
            cause = f"it holds {', '.join(held.splits)}"
            raise UserError(Problem(fact, cause, "hold out text with the corpus stage's validation_bytes"))
        self.file = tokens.TokenFile(path / split)
        if not self.file.tokens:
            raise UserError(Problem(f"{path}: split {split!r} is empty", "it holds no token", "give it some text"))
        self.seq_len = seq_len
        self.end_id = held.end_id
        self.pad_id = held.pad_id
        self.vocab_size = held.vocab_size
        self.tokens = self.file.tokens
        self.full = self.tokens // seq_len
        """Samples without padding."""

    def __len__(self) -> int:
        """Samples in an epoch."""
        return -(-self.tokens // self.seq_len)

    def batch(self, samples: Ints) -> Batch:
        """The samples (B,) as B rows of ``seq_len``; :data:`NOTHING` gives a row of padding."""
        inputs, targets = self._read(samples)
        filled = targets >= 0
        segments, positions = self._segments(samples)
        return Batch(
            tokens=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(filled.astype(np.float32)),
            positions=torch.from_numpy(np.where(filled, positions, 0)),
            segments=torch.from_numpy(np.where(filled, segments, -1)),
        )

    def _read(self, samples: Ints) -> tuple[Ints, Ints]:
        inputs = np.full((len(samples), self.seq_len), self.pad_id, dtype=np.int64)
        targets = np.full((len(samples), self.seq_len), -1, dtype=np.int64)
        for row, sample in enumerate(samples.tolist()):
            if sample == NOTHING:
                continue
            start = sample * self.seq_len
            before = min(start, 1)  # the first sample begins with the end token that the file does not hold
            window = self.file.window(start - before, self.seq_len + before)
            count = len(window) - before
            targets[row, :count] = window[before:]
            inputs[row, 0] = window[0] if before else self.end_id
            inputs[row, 1:count] = window[before : before + count - 1]
        return inputs, targets

    def _segments(self, samples: Ints) -> tuple[Ints, Ints]:
        """Segment numbers, from 0 in each row, and positions, from 0 at each new segment and at the row's start.

        A document that begins at token s of the file follows an end token at position s of the stream, so stream
        positions and document starts are the same numbers.
        """
        starts = samples * self.seq_len
        edges = np.where(samples == NOTHING, 0, np.stack([starts, starts + self.seq_len]))
        first, last = self.file.first_at(edges.reshape(-1)).reshape(2, -1)
        counts = last - first
        rows = np.repeat(np.arange(len(samples)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = self.file.starts(first[rows] + within) - starts[rows]
        marks = np.zeros((len(samples), self.seq_len), dtype=np.int64)
        marks[rows, columns] = 1
        marks[:, 0] = 0
        column = np.arange(self.seq_len)
        opened = np.maximum.accumulate(np.where(marks == 1, column, 0), axis=1)
        return np.cumsum(marks, axis=1), column - opened


class Loader:
    """The batches of a run: step s reads global indexes ``s * batch .. (s + 1) * batch - 1`` of the shuffled epochs.

    An epoch that ends within a batch is followed by the next one in the same batch.
    """

    def __init__(self, dataset: PackedDataset, batch: int, seed: int) -> None:
        self.dataset = dataset
        self.batch = batch
        self.seed = seed

    @property
    def samples_per_epoch(self) -> int:
        return len(self.dataset)

    def epoch_of(self, step: int) -> float:
        """Epochs read before ``step``; 1.5 is the middle of the second."""
        return step * self.batch / self.samples_per_epoch

    def samples(self, step: int) -> Ints:
        """The samples (batch,) of a step, over all ranks."""
        epochs, places = np.divmod(step * self.batch + np.arange(self.batch), self.samples_per_epoch)
        result = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = permute(places[here], self.samples_per_epoch, self.seed, int(epoch))
        return result

    def tokens(self, step: int) -> int:
        """Tokens of a step, over all ranks."""
        return self.batch * self.dataset.seq_len

    def microbatches(self, step: int, rank: int = 0, size: int = 1, micro_batch: int | None = None) -> list[Batch]:
        """What ``rank`` of ``size`` reads in a step: its rows, ``micro_batch`` (None: all) at a time.

        Rank r takes rows r, r + size, ... Where ``size`` does not divide the batch, rows of padding without weight
        even out the shares, so that all ranks step through microbatches of the same shapes.
        """
        mine = _share(self.samples(step), rank, size)
        return [self.dataset.batch(part) for part in _parts(mine, micro_batch or len(mine))]


def validation_batches(
    dataset: PackedDataset, batch: int, max_tokens: int | None, rank: int = 0, size: int = 1
) -> Iterator[Batch]:
    """Windows spread evenly over the split, ``batch`` rows at a time, of at most ``max_tokens`` tokens (None: all).

    Full windows only, unless all tokens are asked for or the split is shorter than one window. The choice does not
    depend on ``batch`` or on the ranks; every rank gets the same number of batches, evened out with rows of padding.
    """
    if max_tokens is None or max_tokens >= dataset.tokens or not dataset.full:
        chosen = np.arange(len(dataset))
    else:
        count = min(dataset.full, max(1, max_tokens // dataset.seq_len))
        chosen = np.arange(count) * dataset.full // count
    for part in _parts(_share(chosen, rank, size), batch):
        yield dataset.batch(part)


def _share(samples: Ints, rank: int, size: int) -> Ints:
    mine = np.full(-(-len(samples) // size), NOTHING, dtype=np.int64)
    own = samples[rank::size]
    mine[: len(own)] = own
    return mine


def _parts(samples: Ints, size: int) -> list[Ints]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]
