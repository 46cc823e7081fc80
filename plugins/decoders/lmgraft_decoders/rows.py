"""The keys and values of texts that are written together, laid out for one new token a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lmgraft.seams.architecture import DecoderSpec

__all__ = ["Rows"]

#: Columns that a new store has room for beyond those in use.
ROOM = 64


class Rows:
    """A :class:`lmgraft.seams.architecture.RowCache`: a layer's keys (B, kv_heads, width, capacity), values
    (B, kv_heads, capacity, width), float32.

    Keys stand with their columns side by side: a step multiplies one query with all of them, and that product then
    reads memory in order (1.3 times as fast as with rows). All rows end at the same column, so that a step writes one
    column; a row that has read less begins later. Columns that no row needs any more are dropped when rows leave, or
    when the store is full: it never holds more than the longest row, or the window, and some room.
    """

    __slots__ = ("_spec", "_starts", "end", "keys", "read", "values")

    def __init__(self, spec: DecoderSpec, rows: int) -> None:
        self._spec = spec
        self._starts = [0] * rows
        self.read = [0] * rows
        """Tokens that each row has been given; those that have left the window too."""
        self.end = 0
        """Columns in use."""
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    @property
    def even(self) -> bool:
        """Do all rows begin at the first column?"""
        return not any(self._starts)

    def begins(self) -> torch.Tensor:
        """(B, 1) the column at which each row begins."""
        return torch.tensor(self._starts)[:, None]

    def make_room(self, tokens: int) -> None:
        """Before a pass of so many tokens."""
        spec = self._spec
        if not self.keys:
            rows, room = len(self._starts), tokens + ROOM
            self.keys = [torch.zeros(rows, spec.kv_heads, spec.head_dim, room) for _ in range(spec.layers)]
            self.values = [torch.zeros(rows, spec.kv_heads, room, spec.head_dim) for _ in range(spec.layers)]
        elif self.end + tokens > self.keys[0].shape[3]:
            low = max(0, self.end - spec.window + 1) if spec.window else 0
            # By a half: a token then costs two copies on average, not one of the whole past.
            self._lay(None, low, max(self.end - low + tokens + ROOM, min((self.end - low) * 3 // 2, spec.context)))

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """(B, T, kv_heads, width) keys and values into the columns after those in use."""
        end = self.end + keys.shape[1]
        if keys.shape[1] == 1:
            self.keys[layer].select(3, self.end).copy_(keys[:, 0])
            self.values[layer].select(2, self.end).copy_(values[:, 0])
        else:
            self.keys[layer][:, :, :, self.end : end] = keys.permute(0, 2, 3, 1)
            self.values[layer][:, :, self.end : end] = values.transpose(1, 2)

    def advance(self, tokens: int) -> None:
        """Counts the tokens of a finished pass."""
        self.end += tokens
        self.read = [read + tokens for read in self.read]

    def select(self, rows: Sequence[int]) -> Rows:
        """The cache of these rows, in this order."""
        self._starts = [self._starts[row] for row in rows]
        self.read = [self.read[row] for row in rows]
        low = min(self._starts, default=self.end)
        self._lay(torch.tensor(list(rows), dtype=torch.int64), low, self.end - low + ROOM)
        return self

    def join(self, other: Rows) -> Rows:
        """The cache of this one's rows and then the other's, aligned at their ends."""
        end, count = max(self.end, other.end), len(self._starts)
        room = end + ROOM
        joined = Rows(self._spec, 0)
        joined.end, joined.read = end, self.read + other.read
        joined._starts = [start + end - one.end for one in (self, other) for start in one._starts]
        for stores, dim in (("keys", 3), ("values", 2)):
            mine, theirs, made = getattr(self, stores), getattr(other, stores), getattr(joined, stores)
            for layer in range(self._spec.layers):
                # Layer by layer: what has been copied is let go.
                left, right = mine[layer], theirs[layer]
                mine[layer] = theirs[layer] = None
                shape = [count + right.shape[0], *left.shape[1:]]
                shape[dim] = room
                # Zeros: what stands before a row's beginning is never seen, but a NaN would come through a mask.
                store = left.new_zeros(shape)
                store[:count].narrow(dim, end - self.end, self.end).copy_(left.narrow(dim, 0, self.end))
                store[count:].narrow(dim, end - other.end, other.end).copy_(right.narrow(dim, 0, other.end))
                made.append(store)
        return joined

    def _lay(self, rows: torch.Tensor | None, low: int, room: int) -> None:
        """Copies the columns from ``low`` on, of these rows, into new stores."""
        used = self.end - low
        for stores, dim in ((self.keys, 3), (self.values, 2)):
            for layer, old in enumerate(stores):
                kept = old.narrow(dim, low, used)
                shape = list(old.shape)
                shape[0], shape[dim] = old.shape[0] if rows is None else len(rows), room
                store = old.new_zeros(shape)
                store.narrow(dim, 0, used).copy_(kept if rows is None else kept.index_select(0, rows))
                stores[layer] = store
        self.end = used
        self._starts = [max(0, start - low) for start in self._starts]
