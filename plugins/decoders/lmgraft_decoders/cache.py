"""The keys and values that generation keeps, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["Cache"]

#: Columns that a new store has at least.
FEWEST = 64


class Cache:
    """Keys and values of all tokens so far, (2, B, heads, capacity, width) a layer.

    A :class:`lmgraft.seams.architecture.RowCache`. Changed in place by each forward pass that is given it. Without
    gradient: it serves generation. Rows end at the same column: one that has read less begins later, behind padding.
    With a ``window`` what no later token sees is dropped when the store is full, in place of a larger store.
    """

    def __init__(self, layers: int, window: int = 0) -> None:
        self.window = window
        self.length = 0
        """Columns in use, padding included."""
        self.segments: torch.Tensor | None = None
        """(B, length), -1 at padding; None: each row is one segment without padding."""
        self._read: int | torch.Tensor = 0
        self._store: list[torch.Tensor | None] = [None] * layers

    @property
    def read(self) -> int | torch.Tensor:
        """How many tokens each row has been given: one number, or (B, 1) int64 where rows differ."""
        return self._read

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds (B, heads, T, width) keys and values; gives those of all tokens."""
        end = self.length + keys.shape[2]
        store = self._store[layer]
        if store is None or store.shape[3] < end:
            # Doubling: a token then costs one copy on average, not one of the whole past.
            grown = keys.new_empty(2, *keys.shape[:2], max(FEWEST, 2 * end), keys.shape[3])
            if store is not None:
                grown[:, :, :, : self.length] = store[:, :, :, : self.length]
            store = self._store[layer] = grown
        store[0, :, :, self.length : end] = keys.detach()
        store[1, :, :, self.length : end] = values.detach()
        if self.length == 0:
            return keys, values
        return store[0, :, :, :end], store[1, :, :, :end]

    def make_room(self, tokens: int) -> None:
        """Before a forward pass of so many tokens: drops what has left the window, where the store would grow."""
        store = self._store[0]
        if not 0 < self.window <= self.length or store is None or store.shape[3] >= self.length + tokens:
            return
        kept = self.window - 1
        for one in self._store:
            assert one is not None, "layers are filled together"
            one[:, :, :, :kept] = one[:, :, :, self.length - kept : self.length].clone()
        if self.segments is not None:
            self.segments = self.segments[:, self.length - kept :]
        self.length = kept

    def advance(self, tokens: int, segments: torch.Tensor | None) -> None:
        """Counts the tokens of a finished forward pass."""
        self.length += tokens
        self._read = self._read + tokens
        self.segments = segments

    def select(self, rows: Sequence[int]) -> Cache:
        """The cache of these rows, in this order; columns that are padding in all of them go."""
        device = next((store.device for store in self._store if store is not None), None)
        at = torch.tensor(list(rows), dtype=torch.int64, device=device)
        if isinstance(self._read, torch.Tensor):
            self._read = self._read[at]
        begin = 0
        if self.segments is not None:
            self.segments = self.segments[at]
            begin = _padded_by_all(self.segments)
        self._store = [
            None if store is None else _held(store[:, :, :, begin : self.length].index_select(1, at))
            for store in self._store
        ]
        self.length -= begin
        if self.segments is not None:
            self.segments = self.segments[:, begin:]
            if not self.segments.any():  # all are segment 0, which is what None says without a mask
                self.segments = None
        return self

    def join(self, other: Cache) -> Cache:
        """The cache of this one's rows and then the other's, aligned at their ends."""
        length = max(self.length, other.length)
        both = [self._aligned(length), other._aligned(length)]
        joined = Cache(len(self._store), self.window)
        joined.length = length
        joined._read = torch.cat([one._each_read() for one in (self, other)])
        for layer, (left, right) in enumerate(zip(*both, strict=True)):
            # Zeros: what stands there is never seen, but a NaN would come through a mask.
            store = left.new_zeros(2, left.shape[1] + right.shape[1], left.shape[2], _roomy(length), left.shape[4])
            store[:, : left.shape[1], :, length - left.shape[3] : length] = left
            store[:, left.shape[1] :, :, length - right.shape[3] : length] = right
            joined._store[layer] = store
        if self.length != other.length or self.segments is not None or other.segments is not None:
            joined.segments = torch.cat([one._padded_segments(length) for one in (self, other)])
        return joined

    def _aligned(self, length: int) -> list[torch.Tensor]:
        return [store[:, :, :, : self.length] for store in self._store if store is not None]

    def _padded_segments(self, length: int) -> torch.Tensor:
        """(B, length): all of a row that is not padding belongs together, so its numbers need not be kept apart."""
        rows, device = self._shape()
        own = self.segments
        if own is None:
            own = torch.zeros(rows, self.length, dtype=torch.int64, device=device)
        return torch.nn.functional.pad(own, (length - self.length, 0), value=-1)

    def _each_read(self) -> torch.Tensor:
        if isinstance(self._read, torch.Tensor):
            return self._read
        rows, device = self._shape()
        return torch.full((rows, 1), self._read, dtype=torch.int64, device=device)

    def _shape(self) -> tuple[int, torch.device]:
        store = self._store[0]
        assert store is not None, "a cache that has read nothing is not joined"
        return store.shape[1], store.device


def _padded_by_all(segments: torch.Tensor) -> int:
    """The columns at the left in which every row has padding."""
    if not segments.shape[0]:
        return 0
    return int((segments < 0).int().cumprod(1).sum(1).min())


def _held(kept: torch.Tensor) -> torch.Tensor:
    """A store that holds ``kept`` and has room: the step that follows shall not copy everything again."""
    store = kept.new_zeros(*kept.shape[:3], _roomy(kept.shape[3]), kept.shape[4])
    store[:, :, :, : kept.shape[3]] = kept
    return store


def _roomy(length: int) -> int:
    return max(FEWEST, length + length // 4 + 1)
