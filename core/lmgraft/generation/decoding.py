"""Texts that are written together: :class:`lmgraft.seams.parallelism.Decoding` over any module.

Continuous batching (Yu et al. 2022, "Orca", OSDI): a text joins between two steps and leaves when it ends, and nobody
waits for the longest. Where the module's cache is a :class:`~lmgraft.seams.architecture.RowCache`, all texts under way
are one pass a step; another cache, or none, is stepped by itself.

New prompts are read at the next step, those of one length together. A prompt above :data:`PASS_TOKENS` is read in
pieces where the module keeps a cache, so that a pass never holds more than so many tokens at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lmgraft.seams.architecture import RowCache
from lmgraft.seams.parallelism import Sampling
from lmgraft.training.sampling import Sampler, draw

__all__ = ["Ask", "TextBatch"]

#: Tokens of one pass while prompts are read.
PASS_TOKENS = 2048

#: (tokens (B, T), positions (B, T), cache) -> logits (B, V) after the last position, and the cache that goes on.
Ask = Callable[[torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, Any]]


@dataclass(slots=True)
class _Text:
    number: int
    ids: list[int]
    """Prompt and text so far; the last one is not read yet once the text is under way."""
    sampler: Sampler
    left: int
    """Tokens that ``max_new_tokens`` still allows."""


@dataclass(slots=True)
class _Group:
    """Texts that share a cache, one a row, in the order in which they were added."""

    texts: list[_Text]
    cache: Any


class TextBatch:
    """Implements :class:`lmgraft.seams.parallelism.Decoding`; ``context`` is the longest sequence ``ask`` takes."""

    def __init__(self, ask: Ask, context: int) -> None:
        self._ask = ask
        self._context = context
        self._count = 0
        self._new: list[_Text] = []
        self._groups: list[_Group] = []

    def add(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """The prompt is read at the next step. With ``max_new_tokens`` 0 the text has ended before it begins.

        :raises ValueError: the prompt is empty, or longer than the context.
        """
        if not 0 < len(prompt) <= self._context:
            raise ValueError(f"a prompt of {len(prompt)} ids; it needs one, and at most {self._context}")
        number = self._count
        self._count += 1
        if sampling.max_new_tokens > 0:
            self._new.append(_Text(number, list(prompt), Sampler(sampling, prompt), sampling.max_new_tokens))
        return number

    def remove(self, number: int) -> None:
        """Ends a text before its time; one that has ended already is passed over."""
        self._new = [text for text in self._new if text.number != number]
        self._keep(lambda text: text.number != number)

    def __len__(self) -> int:
        return len(self._new) + sum(len(group.texts) for group in self._groups)

    def step(self) -> list[tuple[int, int, bool]]:
        """(number, id, is this its last) of one more token of every text, in the order they were added."""
        texts: list[_Text] = []
        logits: list[torch.Tensor] = []
        for group in self._groups:
            logits.append(self._next(group))
            texts += group.texts
        fresh = []
        for group, found in self._read():
            logits.append(found)
            texts += group.texts
            fresh.append(group)
        self._groups = _joined([*self._groups, *_joined(fresh)])
        if not texts:
            return []
        tokens = draw(torch.cat(logits) if len(logits) > 1 else logits[0], [text.sampler for text in texts])
        told = [self._told(text, token) for text, token in zip(texts, tokens, strict=True)]
        ended = {number for number, _, last in told if last}
        if ended:
            self._keep(lambda text: text.number not in ended)
        return sorted(told)

    # --- passes ---------------------------------------------------------------------------------------------------

    def _next(self, group: _Group) -> torch.Tensor:
        """Reads the last token of each text of a group, or all of it where no cache is kept: logits (B, V)."""
        if group.cache is None:
            logits, group.cache = self._whole(group.texts)
            return logits
        tokens = torch.tensor([text.ids[-1:] for text in group.texts])
        positions = torch.tensor([[len(text.ids) - 1] for text in group.texts])
        logits, group.cache = self._ask(tokens, positions, group.cache)
        return logits

    def _read(self) -> list[tuple[_Group, torch.Tensor]]:
        """The prompts of new texts, each group with the logits after it."""
        found = []
        for texts in _passes(self._new):
            logits, cache = self._whole(texts)
            if len(texts) > 1 and not isinstance(cache, RowCache):
                # One cache for several rows could not be taken apart: each goes by itself from the start.
                alone = [self._whole([text]) for text in texts]
                found += [(_Group([text], own), row) for text, (row, own) in zip(texts, alone, strict=True)]
            else:
                found.append((_Group(texts, cache), logits))
        self._new = []
        return found

    def _whole(self, texts: Sequence[_Text]) -> tuple[torch.Tensor, Any]:
        """All tokens of texts of one length, in pieces where the module keeps a cache."""
        tokens = torch.tensor([text.ids for text in texts])
        length = tokens.shape[1]
        positions = torch.arange(length).expand_as(tokens)
        piece = min(length, max(1, PASS_TOKENS // len(texts)))
        logits, cache = self._ask(tokens[:, :piece], positions[:, :piece], None)
        if cache is None and piece < length:
            return self._ask(tokens, positions, None)
        for start in range(piece, length, piece):
            here = slice(start, start + piece)
            logits, cache = self._ask(tokens[:, here], positions[:, here], cache)
        return logits, cache

    # --- who is under way -----------------------------------------------------------------------------------------

    def _told(self, text: _Text, token: int) -> tuple[int, int, bool]:
        text.ids.append(token)
        text.left -= 1
        # The token just drawn must still be read to draw another one.
        full = text.left == 0 or len(text.ids) > self._context
        return text.number, token, full or token in text.sampler.sampling.stop_ids

    def _keep(self, stays: Callable[[_Text], bool]) -> None:
        groups = []
        for group in self._groups:
            rows = [row for row, text in enumerate(group.texts) if stays(text)]
            if len(rows) < len(group.texts):
                group.texts = [group.texts[row] for row in rows]
                group.cache = group.cache.select(rows) if rows and isinstance(group.cache, RowCache) else group.cache
            if rows:
                groups.append(group)
        self._groups = groups


def _passes(texts: Sequence[_Text]) -> list[list[_Text]]:
    """Texts of one length together, in the order of their first, up to :data:`PASS_TOKENS` a pass."""
    passes: list[list[_Text]] = []
    by_length: dict[int, list[_Text]] = {}
    for text in texts:
        length = len(text.ids)
        here = by_length.get(length)
        if here is None or (len(here) + 1) * length > PASS_TOKENS:
            here = by_length[length] = []
            passes.append(here)
        here.append(text)
    return passes


def _joined(groups: Sequence[_Group]) -> list[_Group]:
    """Those whose caches can be joined as one, in halves, so that each row is copied a few times and not once a group;
    it stands where the first of them stood."""
    rows = [group for group in groups if isinstance(group.cache, RowCache)]
    if len(rows) < 2:
        return list(groups)
    half = len(rows) // 2
    (left,), (right,) = _joined(rows[:half]), _joined(rows[half:])
    whole = _Group([*left.texts, *right.texts], left.cache.join(right.cache))
    return [whole, *(group for group in groups if not isinstance(group.cache, RowCache))]
