"""py3langid's classifier on many texts at once.

The model is py3langid's own (BSD-3-Clause; 139 languages; after langid.py, Lui and Baldwin 2012): a naive Bayes
classifier over byte n-grams that an automaton finds. The library walks it a byte at a time in Python; here many
stretches of text are walked side by side in numpy. Its n-grams have six bytes at most, and its state after six bytes
depends on these alone (Aho and Corasick 1975), so that a stretch can begin anywhere once it has walked the six bytes
before. The scores are those of the library, which a test compares.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from lmgraft_language.codes import normal

__all__ = ["Bayes"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Characters of a text that are looked at.
SEEN = 1 << 18
#: Bytes of a stretch (never fewer than of an n-gram), of the n-grams, and of the texts that are walked side by side.
STRETCH = 128
WARM = 6
BLOCK = 1 << 20


class Bayes:
    """Identifies languages with py3langid's model."""

    def __init__(self) -> None:
        model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._next = np.asarray(model.tk_nextmove)
        self._row = np.asarray(model.tk_row).astype(np.int32) << 8
        self._found = np.asarray(model.tk_output, np.int32)
        self._table, self._prior = model.nb_ptc.astype(np.float32), model.nb_pc
        labels = [normal(label) if label != "zxx" else "und" for label in model.nb_classes]
        #: Some languages have two classes, one for each script, and two have one code.
        self._labels = sorted(set(labels))
        self._column = np.array([self._labels.index(label) for label in labels])
        self.codes = frozenset(self._labels)
        """Every code that ``identify`` may give."""

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """(code, probability) of each text's likeliest language; ``und`` for what is no language."""
        return [found for block in _blocks(texts) for found in self._block(block)]

    def _block(self, texts: Sequence[bytes]) -> Iterator[tuple[str, float]]:
        counted = self._walk(texts)
        for text, features in zip(texts, counted, strict=True):
            yield self._scored(features, len(text)) if len(features) else ("und", 0.0)

    def _scored(self, features: Array, size: int) -> tuple[str, float]:
        index, counts = np.unique(features, return_counts=True)
        # Not by BLAS: the order of its additions depends on the number of threads, and verdicts must not.
        weights = np.log1p(counts.astype(np.float32))
        scores = np.einsum("i,ij->j", weights, self._table.take(index, axis=0)) + self._prior
        # The library's temperature, which keeps probabilities comparable across lengths.
        scores *= 1.0 / math.sqrt(size)
        odds = np.bincount(self._column, np.exp(scores - scores.max(), dtype=np.float64))
        best = int(odds.argmax())
        return self._labels[best], float(odds[best] / odds.sum())

    def _walk(self, texts: Sequence[bytes]) -> list[Array]:
        """The n-grams that the automaton finds in each text, a number for each time."""
        sizes = np.array([len(text) for text in texts])
        joined = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
        lanes = -(-sizes // STRETCH)
        owner = np.repeat(np.arange(len(texts)), lanes)
        inside = STRETCH * (np.arange(lanes.sum()) - np.repeat(np.cumsum(lanes) - lanes, lanes))
        starts = inside + np.repeat(np.cumsum(sizes) - sizes, lanes)
        state = np.zeros(len(starts), np.int32)
        for back in range(WARM, 0, -1):
            state = self._step(state, joined[np.maximum(starts - back, 0)])
        state[inside == 0] = 0
        found = np.empty((STRETCH, len(starts)), np.int32)
        last = len(joined) - 1
        for ahead in range(STRETCH):
            state = self._step(state, joined[np.minimum(starts + ahead, last)])
            found[ahead] = self._found[state]
        found[np.arange(STRETCH)[:, None] >= (sizes[owner] - inside)[None, :]] = -1
        flat = found.T.ravel()
        ends = np.cumsum(lanes) * STRETCH
        return [own[own >= 0] for own in np.split(flat, ends[:-1])]

    def _step(self, state: Array, letters: Array) -> Array:
        after: Array = self._next[self._row[state] + letters]
        return after


def _blocks(texts: Sequence[str]) -> Iterator[list[bytes]]:
    """Texts as the model takes them, in blocks of bounded size: composed, and not all in capital letters."""
    block: list[bytes] = []
    size = 0
    for text in texts:
        text = text[:SEEN]
        text = text.lower() if text.isupper() else text
        block.append(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass"))
        size += len(block[-1])
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block
