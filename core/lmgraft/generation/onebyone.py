"""A batch of texts for handles that write one at a time: each step asks each text's own generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmgraft.seams.parallelism import BatchingHandle, Decoding, ModelHandle, Sampling

__all__ = ["OneByOne", "decoding"]


def decoding(handle: ModelHandle) -> Decoding:
    """A new, empty batch of texts: the handle's own where it has one."""
    return handle.decoding() if isinstance(handle, BatchingHandle) else OneByOne(handle)


class OneByOne:
    """:class:`~lmgraft.seams.parallelism.Decoding` over any handle. A token is told one step after it was drawn, since
    only the next one shows whether it was the last."""

    def __init__(self, handle: ModelHandle) -> None:
        self._handle = handle
        self._next = 0
        self._texts: dict[int, tuple[Iterator[int], int | None]] = {}

    def add(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Begins a text; the number that it goes by."""
        number, self._next = self._next, self._next + 1
        ids = iter(self._handle.generate(prompt, sampling))
        self._texts[number] = (ids, next(ids, None))
        return number

    def remove(self, number: int) -> None:
        """Ends a text before its time."""
        self._texts.pop(number, None)

    def step(self) -> list[tuple[int, int, bool]]:
        """(number, id, is this its last) of every text."""
        told = []
        for number, (ids, token) in list(self._texts.items()):
            if token is None:  # not one token: there was no room
                del self._texts[number]
                continue
            following = next(ids, None)
            told.append((number, token, following is None))
            if following is None:
                del self._texts[number]
            else:
                self._texts[number] = (ids, following)
        return told

    def __len__(self) -> int:
        """Texts under way."""
        return len(self._texts)
