"""The steps that a chat template may take, and what an operation on a value costs of them.

:mod:`lmgraft.bounded` asks here before and after all that a template does. A step is about a fifth of a microsecond.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.runtime import LoopContext
from jinja2.utils import Namespace

__all__ = [
    "TooMuchWork",
    "alike",
    "allowance",
    "deep",
    "of_bits",
    "of_length",
    "size",
    "slowly",
    "spend",
    "spreads",
    "width",
    "work",
    "written",
]  # fmt: skip

#: Steps of a conversation of no message; for each message; and for each pair, since a conversation is rendered anew for
#: each answer in it. Some five million steps are a second.
_FIRST, _EACH, _PAIR = 2_000_000, 100_000, 100
#: Steps of an entry that is looked into.
_ENTRY = 4
#: Characters, and entries of a list, that one operation goes through in the time of a step.
CHARACTERS, ENTRIES = 64, 8
#: Characters or entries that one value may have, bits of a number, and how deep a value may be nested: Python computes
#: the hash of a tuple in a tuple in a tuple without a bound on the depth, and ends with it.
_LARGEST, _BITS, _DEPTH = 1 << 26, 1 << 12, 100
#: A width of millions in a format, ``{:>9999999}`` and ``%9999999d``, or one that is an argument.
_WIDE = re.compile(r"\d{7}|\{[^{}]*\{|%[^a-zA-Z%]*\*")
_HOLDERS = (list, tuple, dict, Namespace, KeysView, ValuesView, ItemsView)


class TooMuchWork(Exception):
    """A template did more than any conversation of this length asks for."""


class _Left:
    """The steps that are left."""

    __slots__ = ("steps",)

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooMuchWork("it goes on for longer than any conversation of this length asks for")


_left: ContextVar[_Left | None] = ContextVar("left", default=None)


def allowance(messages: Sequence[Any], characters: int) -> int:
    """Steps that all renderings of a conversation may take together: a thousand messages or megabytes of text do not
    come near it, and a template without an end reaches it within seconds where the conversation is short."""
    count = max(1, len(messages))
    return _FIRST + _EACH * count + _PAIR * count**2 + (2 + count // 8) * characters


@contextmanager
def work(messages: Sequence[Any], characters: int) -> Iterator[None]:
    """All that is rendered within shares one allowance, that of the outermost block."""
    if _left.get() is not None:
        yield
        return
    token = _left.set(_Left(allowance(messages, characters)))
    try:
        yield
    finally:
        _left.reset(token)


def spend(steps: int) -> None:
    """Takes ``steps`` of what is left. Raises :class:`TooMuchWork` where there are no more."""
    left = _left.get()
    if left is not None:
        left.spend(steps)


def size(value: Any) -> Any:
    """``value``, once the steps of going through it are spent; what has no length yet is counted as it comes."""
    if isinstance(value, str | bytes):
        of_length(len(value), CHARACTERS)
    elif isinstance(value, list | tuple | dict | range | KeysView | ValuesView | ItemsView):
        of_length(len(value), ENTRIES)
    elif isinstance(value, int):
        of_bits(value.bit_length())
    elif _comes(value):
        return _counted(value, size)
    return value


def deep(value: Any) -> Any:
    """:func:`size` with all that the value holds, as often as it holds it: lists of one list are written out whole."""
    if _comes(value):
        return _counted(value, deep)
    if not isinstance(value, _HOLDERS):
        return size(value)
    entries = [(value, 0)]
    while entries:
        inner, depth = entries.pop()
        size(inner)
        entries += [(each, depth + 1) for each in _held(inner) if not isinstance(each, bool | None)]
        spend(_ENTRY)
        if depth > _DEPTH:
            raise TooMuchWork(f"it makes a value that is nested {depth} deep")
    return value


def _held(value: Any) -> Any:
    if isinstance(value, Namespace):  # written with its attributes; Jinja's own name for them
        value = object.__getattribute__(value, "_Namespace__attrs")
    if isinstance(value, Mapping):
        return [*value.values(), *(key for key in value if isinstance(key, tuple))]
    return value if isinstance(value, _HOLDERS) else ()


def _comes(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, LoopContext)


def _counted(values: Iterator[Any], look: Any) -> Iterator[Any]:
    for value in values:
        spend(1)
        yield look(value)


def alike(one: Any, other: Any) -> None:
    """Two values that are compared."""
    if isinstance(one, str) and isinstance(other, str):
        spend(min(len(one), len(other)) // CHARACTERS)
    else:
        deep(one)
        deep(other)


def width(value: Any) -> Any:
    """A number that says how long a result will be."""
    if isinstance(value, int):
        of_length(abs(value), ENTRIES)
    return size(value)


def slowly(value: Any) -> Any:
    """What is gone through a character at a time in Python."""
    of_length(len(value) if isinstance(value, str) else 0, 1)
    return deep(value)


def of_length(length: int, share: int) -> None:
    """A value of ``length``, of which ``share`` are gone through in a step."""
    if length > _LARGEST:
        raise TooMuchWork(f"it makes a value of {length:,} characters or entries")
    if length > share:
        spend(length // share)


def of_bits(bits: int) -> None:
    """A number."""
    if bits > _BITS:
        raise TooMuchWork(f"it makes a number of {bits:,} bits")


def spreads(text: Any) -> Any:
    """A text by which something is formatted, with all widths in it."""
    if not isinstance(text, str):
        return text
    if _WIDE.search(text):
        raise TooMuchWork("it formats with a width of millions, or one that it computes")
    of_length(sum(int(number) for number in re.findall(r"\d+", text)), CHARACTERS)
    return size(text)


def written(values: Any, times: int) -> None:
    """Values that a format writes, each as often as that."""
    left = _left.get()
    before = left.steps if left is not None else 0
    deep(values)
    if left is not None:
        left.spend((before - left.steps) * times)
