"""The loader: which tokens each step reads, as a pure function of (seed, step, global index).

Nothing is kept between steps, so a run resumes at any step, and any number of ranks reads the same batches: no sample
is repeated or skipped.

**The stream.** A split is read as one stream that begins with an end token: ``end d0 end d1 end ...``. Sample i reads
stream positions ``[i * seq_len, (i + 1) * seq_len)`` and predicts the token after each. So every token of the file is
predicted exactly once an epoch, the last sample's missing rest is padding without weight, and the first token of every
document is predicted from an end token, which is how the evaluator asks for it.

**Other beginnings.** Where ``tokens.json`` names another id that documents begin with (``<s>`` of somebody's
tokenizer), an input row holds that one in place of the end token before each document. The file and the targets stay as
they are: the document before is closed by its end token, and the beginning is never predicted.

**Segments.** The end token stands on both sides of a document: predicted by the last token of the document before it,
and read as the *first* token of the document after it. In an input row a new segment therefore begins *at* the end
token, with position 0; attention within a segment never reaches the document before. Padding has segment -1.

**The order.** Epoch e visits the samples in the order of a keyed bijection on ``0 .. n - 1`` (:func:`permute`), which
needs no memory and no state.

**A mixture.** Which source a global index reads, and the how-many-eth sample of it, is a closed form too
(:mod:`lmgraft.training.blend`); within itself each source goes through its own epochs, each in an order of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmgraft.artifacts import tokens
from lmgraft.errors import Problem, UserError
from lmgraft.seams.objective import Batch
from lmgraft.training.blend import Blend

__all__ = ["Loader", "MixedLoader", "PackedDataset", "Rows", "permute", "validation_batches"]

ROUNDS = 8

#: A row that holds nothing: it evens out the ranks' shares.
NOTHING = -1

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
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


@dataclass(frozen=True, slots=True)
class Rows:
    """B sequences of T positions, as :class:`~lmgraft.seams.objective.Batch` holds them: each (B, T) int64."""

    tokens: Ints
    targets: Ints
    """-1 where there is nothing to predict."""
    positions: Ints
    segments: Ints
    """-1 on padding."""

    def batch(self) -> Batch:
        return Batch(
            tokens=torch.from_numpy(self.tokens),
            targets=torch.from_numpy(self.targets),
            weights=torch.from_numpy((self.targets >= 0).astype(np.float32)),
            positions=torch.from_numpy(self.positions),
            segments=torch.from_numpy(self.segments),
        )


class PackedDataset:
    """The samples of a split: windows of ``seq_len`` predictions over its stream (see the module's docstring)."""

    def __init__(self, path: Path, split: str, seq_len: int) -> None:
        """``path`` is a folder of packed tokens. Raises :class:`~lmgraft.errors.UserError` where the split is absent,
        empty or damaged."""
        held = tokens.info(path)
        if split not in held.splits:
            fact = f"{path} holds no split {split!r}"
            cause = f"it holds {', '.join(held.splits)}"
            raise UserError(Problem(fact, cause, "hold out text with the corpus stage's validation_bytes"))
        self.file = tokens.TokenFile(path / split)
        if not self.file.tokens:
            raise UserError(Problem(f"{path}: split {split!r} is empty", "it holds no token", "give it some text"))
        if self.file.tokens != held.splits[split].tokens:
            cause = f"they hold {self.file.tokens:,} tokens, and {tokens.MANIFEST} says {held.splits[split].tokens:,}"
            remedy = "make the folder again: its files are not of one piece"
            raise UserError(Problem(f"{path / split}.bin and .idx are not those of their folder", cause, remedy))
        self.seq_len = seq_len
        self.end_id = held.end_id
        self.first_id = held.first_id
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
        return self.rows(samples).batch()

    def rows(self, samples: Ints) -> Rows:
        """The same in numpy.

        :raises UserError: an id is beyond the vocabulary.
        """
        starts = np.where(samples == NOTHING, self.tokens, samples * self.seq_len)
        at = starts[:, None] + np.arange(-1, self.seq_len)
        window = self.file.take(at).astype(np.int64)
        window[at == -1] = self.end_id  # what the first sample begins with and the file does not hold
        filled = at[:, 1:] < self.tokens
        self._check(window, at)
        begun = self._begun(samples)
        inputs = window[:, :-1]
        if self.first_id != self.end_id:
            inputs = np.where(begun, self.first_id, inputs)
        segments, positions = _segments(begun)
        return Rows(
            tokens=np.where(filled, inputs, self.pad_id),
            targets=np.where(filled, window[:, 1:], -1),
            positions=np.where(filled, positions, 0),
            segments=np.where(filled, segments, -1),
        )

    def _check(self, window: Ints, at: Ints) -> None:
        """A model asked for a row that its embedding lacks ends in a message of the device's, or in none."""
        if not window.size or (window.min() >= 0 and window.max() < self.vocab_size):
            return
        place = int(np.flatnonzero((window < 0) | (window >= self.vocab_size))[0])
        fact = f"{self.file.prefix}.bin: token {at.flat[place]:,} is {window.flat[place]}"
        cause = f"the vocabulary of {tokens.MANIFEST} has the ids 0 to {self.vocab_size - 1:,}"
        raise UserError(Problem(fact, cause, "make the folder again with the tokenizer that the model has"))

    def _begun(self, samples: Ints) -> Bools:
        """Where in the rows (B, T) a document begins.

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
        begun = np.zeros((len(samples), self.seq_len), dtype=np.bool_)
        begun[rows, columns] = True
        return begun


def _segments(begun: Bools) -> tuple[Ints, Ints]:
    """Segment numbers, from 0 in each row, and positions, from 0 at each new segment and at the row's start."""
    marks = begun.astype(np.int64)
    marks[:, 0] = 0
    column = np.arange(begun.shape[1])
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
        return _shuffled(step * self.batch + np.arange(self.batch), self.samples_per_epoch, self.seed)

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


class MixedLoader:
    """The batches of a run over several sources by weight; the methods are those of :class:`Loader`.

    Every token of a source is read once in each epoch of that source, however many ranks there are and wherever a run
    was resumed.
    """

    def __init__(self, sources: Sequence[PackedDataset], blend: Blend, batch: int, seed: int) -> None:
        """``sources`` are of one tokenizer and one ``seq_len``, in the order of the blend's weights."""
        self.sources = sources
        self.blend = blend
        self.batch = batch
        self._seeds = [_own_seed(seed, number) for number in range(len(sources))]

    def epochs(self, step: int) -> list[float]:
        """The epochs of each source that are read before ``step``."""
        counts = self.blend.counts(step * self.batch)
        return [count / len(source) for count, source in zip(counts, self.sources, strict=True)]

    def samples(self, step: int) -> tuple[Ints, Ints]:
        """The sources (batch,) that a step reads, over all ranks, and the samples of them (batch,)."""
        sources, numbers = self.blend.locate(step * self.batch + np.arange(self.batch))
        samples = np.empty_like(numbers)
        for source in np.unique(sources).tolist():
            here = sources == source
            samples[here] = _shuffled(numbers[here], len(self.sources[source]), self._seeds[source])
        return sources, samples

    def tokens(self, step: int) -> int:
        """Tokens of a step, over all ranks."""
        return self.batch * self.sources[0].seq_len

    def microbatches(self, step: int, rank: int = 0, size: int = 1, micro_batch: int | None = None) -> list[Batch]:
        """As :meth:`Loader.microbatches`."""
        sources, samples = self.samples(step)
        mine = _share(np.arange(self.batch), rank, size)
        samples = np.where(mine == NOTHING, NOTHING, samples[mine])
        sources = np.where(mine == NOTHING, 0, sources[mine])
        width = micro_batch or len(mine)
        return [self._rows(*part).batch() for part in zip(_parts(sources, width), _parts(samples, width), strict=True)]

    def _rows(self, sources: Ints, samples: Ints) -> Rows:
        shape = (len(samples), self.sources[0].seq_len)
        whole = Rows(*(np.empty(shape, dtype=np.int64) for _ in range(4)))
        for source in np.unique(sources).tolist():
            here = sources == source
            rows = self.sources[source].rows(samples[here])
            whole.tokens[here], whole.targets[here] = rows.tokens, rows.targets
            whole.positions[here], whole.segments[here] = rows.positions, rows.segments
        return whole


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


def _shuffled(numbers: Ints, size: int, seed: int) -> Ints:
    """The samples at ``numbers`` (n,) of an endless row of shuffled epochs of ``size`` samples each; (n,)."""
    epochs, places = np.divmod(numbers, size)
    result = np.empty_like(numbers)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        result[here] = permute(places[here], size, seed, epoch)
    return result


def _own_seed(seed: int, source: int) -> int:
    """The first source of a mixture has the order that it has alone; sources of one size have different ones."""
    if source == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"lmgraft source {source} {seed}".encode(), digest_size=8).digest(), "little")


def _share(samples: Ints, rank: int, size: int) -> Ints:
    mine = np.full(-(-len(samples) // size), NOTHING, dtype=np.int64)
    own = samples[rank::size]
    mine[: len(own)] = own
    return mine


def _parts(samples: Ints, size: int) -> list[Ints]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]
