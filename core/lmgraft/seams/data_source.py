"""Seam ``data_source``: where documents come from.

A source cuts what it has into *units* (a file, a byte range, a WARC, a hub shard) and reads one unit from an offset.
Core hands the units to workers and keeps the cursors, so disjointness, exhaustiveness and resuming hold by
construction for any number of workers.

Rules
- ``units()`` is deterministic: the same input gives the same units in the same order.
- A unit's ``id`` names it within its source and holds no absolute path, so that a moved folder is the same input.
- What a unit holds is pinned: by ``path`` (core takes the file's sha256) or by ``digest`` (a hub commit, a hash).
- ``read(unit, n)`` yields exactly what ``read(unit, 0)`` yields after its first ``n`` documents.
- Bad input is never passed over in silence. Where reading can go on after it (a broken line, a row without its
  column), the source yields :class:`Damaged` in its place; where it cannot (a truncated archive) it raises
  :class:`Unreadable`, or any :class:`lmgraft.errors.UserError`, naming the file and the line: the rest of the unit is
  lost. What follows is the corpus stage's setting ``corrupt``: ``stop`` at the first, in its three lines, or
  ``quarantine``: count them by reason, set them down in ``quarantine.jsonl`` and go on. A source needs nothing for
  either. What ``units()`` raises stops the stage: it is the settings that are wrong.
- An offset counts documents, not what is damaged between them.
- A part is built anew in each worker process, and one instance may read several units, one after another: nothing that
  ``read`` remembers may change what a later ``read`` gives.
- Its config says in ``provides()`` which columns its documents have (``"columns:text"``), and in ``ready()`` whether it
  has been pointed at anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lmgraft.errors import Problem, UserError

__all__ = ["Damaged", "DataSource", "DataSourceConfig", "Document", "Unit", "Unreachable", "Unreadable"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document: a ``text``, a chat (``messages``), or a preference pair: ``chosen`` and ``rejected`` after a
    ``prompt``, or after ``messages`` where the prompt is a conversation."""

    id: str
    """Unique within its source; core prefixes the source's name."""
    text: str | None = None
    """Plain text; the other four are None then."""
    messages: Sequence[Mapping[str, Any]] | None = None
    """A conversation: ``{"role": "system" | "user" | "assistant", "content": text}`` in order."""
    prompt: str | None = None
    """What both answers of a pair answer."""
    chosen: str | None = None
    """The preferred answer."""
    rejected: str | None = None
    """The other answer."""
    group: str = ""
    """Documents of one group (a file, a site, a conversation tree) are never split between training and held-out.
    Empty: the document is a group of its own."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else is known, JSON values only."""

    def length(self) -> int:
        """UTF-8 bytes of all its text."""
        parts = [self.text, self.prompt, self.chosen, self.rejected]
        parts += [str(message.get("content") or "") for message in self.messages or ()]
        return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts if part)


@dataclass(frozen=True, slots=True)
class Damaged:
    """What stands where a document should: input that cannot be read, after which reading goes on."""

    reason: str
    """A short stable word, a key of the funnel: ``bad_json``, ``bad_utf8``, ``missing_column``, ``too_long``."""
    problem: Problem
    """The fact with file and line, the cause, the remedy: what the user reads where the stage stops at it."""
    bytes: int = 0
    """Bytes of input that are passed over, as far as known."""


class Unreadable(UserError):
    """Input after which a unit cannot be read on: ``raise Unreadable("truncated", Problem(fact, cause, remedy))``.
    Counted under its reason, where a plain UserError counts as ``unreadable``."""

    def __init__(self, reason: str, problem: Problem, bytes: int = 0) -> None:  # noqa: A002 - as Damaged has it
        super().__init__(problem)
        self.reason = reason
        self.bytes = bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.problems[0], self.bytes)


class Unreachable(UserError):
    """What is read from is out of reach: a server that does not answer, a share that is gone, a file that was changed
    while it was read. Nothing is wrong with the data, so nothing counts as damaged: the stage stops whatever its
    ``corrupt`` says, keeps what is finished, and goes on when it is started again."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a source that one worker reads."""

    id: str
    """Unique within its source, the same on every machine."""
    path: str | None = None
    """The file it is read from; its content digest becomes part of the action key."""
    digest: str | None = None
    """Where there is no single file: what pins the content."""
    start: int = 0
    """First byte of a range of ``path``, or whatever the source means by it."""
    end: int | None = None
    """The byte after the last; None: to the end."""
    size: int = 0
    """Bytes, as far as known beforehand: for progress only."""


@runtime_checkable
class DataSource(Protocol):
    """The part: cuts what it has into units, and reads them."""

    def units(self) -> list[Unit]:
        """All units, in a fixed order."""
        ...

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        """The documents of ``unit`` after its first ``offset``, in a fixed order, and what is damaged among them."""
        ...


class DataSourceConfig(Protocol):
    """What a source's *settings* may have beside their fields: what a model card tells. Both are optional."""

    def license(self) -> str:
        """The licence of all that the source gives, best an SPDX identifier; empty where it is not known, or not one.
        May be a plain class attribute."""
        ...

    def dataset(self) -> str:
        """``org/name`` of the Hugging Face data set that is read; empty where it is none."""
        ...
