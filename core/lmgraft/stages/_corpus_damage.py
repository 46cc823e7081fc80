"""What a corpus could not read: counted by reason, and set down in ``quarantine.jsonl``.

A row of that file has ``source``, ``unit``, ``reason``, ``fact``, ``cause``, ``remedy``, ``bytes`` (as far as known)
and ``lost``: ``row``, or ``rest of the unit`` where reading could not go on. It holds the first thousand of each
source; the funnel counts them all. The path of a unit's file gives way to the unit's id, so that a moved folder is the
same input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged, Unit, Unreadable
from lmgraft.stages._corpus_parts import Part, write_atomically

__all__ = ["QUARANTINE", "Damage", "as_funnel", "gather", "reasons"]

QUARANTINE = "quarantine.jsonl"
ROWS = 1000
"""Of each source, as many are set down."""
SAMPLE = 5
"""Of each source, as many are in the funnel."""
CLIP = 500
"""Characters of a line."""


@dataclass
class Damage:
    """What of a source, or of one part of it, could not be read."""

    reasons: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    cut_short: int = 0
    """Units whose rest is lost."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The first ones, as :data:`QUARANTINE` has them."""

    def passed_over(self, source: str, unit: Unit, damaged: Damaged) -> None:
        """Counts what a source yields in a document's place."""
        self._add(source, unit, damaged.reason, damaged.problem, damaged.bytes, "row")

    def given_up(self, source: str, unit: Unit, error: UserError) -> None:
        """Counts a unit of which nothing more can be read."""
        self.cut_short += 1
        reason, size = (error.reason, error.bytes) if isinstance(error, Unreadable) else ("unreadable", 0)
        self._add(source, unit, reason, error.problems[0], size, "rest of the unit")

    def counts(self) -> dict[str, Any]:
        return {"reasons": dict(sorted(self.reasons.items())), "bytes": self.bytes, "cut_short": self.cut_short}

    def write(self, folder: Path, part: str) -> None:
        """Sets the first rows down beside a part."""
        if self.rows:
            write_atomically(
                _beside(folder, part), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
            )

    def _add(self, source: str, unit: Unit, reason: str, problem: Problem, size: int, lost: str) -> None:
        self.reasons[reason] += 1
        self.bytes += size
        if len(self.rows) < ROWS:
            lines = {name: _line(getattr(problem, name), unit) for name in ("fact", "cause", "remedy")}
            row = {"source": source, "unit": unit.id, "reason": reason, **lines, "bytes": size, "lost": lost}
            self.rows.append(row)


def _line(text: str, unit: Unit) -> str:
    here = text.replace(unit.path, unit.id) if unit.path else text
    line = " ".join(here.split())[:CLIP]
    return line.encode("utf-8", "replace").decode()


def _beside(folder: Path, part: str) -> Path:
    return folder / f"{part}.{QUARANTINE}"


def gather(folder: Path, parts: Sequence[Part], path: Path) -> dict[str, dict[str, Any]]:
    """Source -> what all its parts count, with the first few rows as ``sample``; sources without damage are left out.

    The first :data:`ROWS` of each source are written to ``path``, in the order of the units.
    """
    total: dict[str, Damage] = {}
    for part in parts:
        if part.damaged:
            own = total.setdefault(part.source, Damage())
            own.reasons.update(part.damaged["reasons"])
            own.bytes += part.damaged["bytes"]
            own.cut_short += part.damaged["cut_short"]
    found: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for source, damage in total.items():
        names = (part.name for part in parts if part.source == source and part.damaged)
        own_lines = list(islice(chain.from_iterable(_lines(folder, name) for name in names), ROWS))
        sample = [json.loads(line) for line in own_lines[:SAMPLE]]
        kept = ("unit", "reason", "fact", "lost")
        found[source] = {**damage.counts(), "sample": [{name: row[name] for name in kept} for row in sample]}
        lines += own_lines
    if lines:
        write_atomically(path, "".join(lines))
    return found


def _lines(folder: Path, part: str) -> Iterator[str]:
    with _beside(folder, part).open(encoding="utf-8", newline="\n") as file:
        yield from file


def as_funnel(damage: Mapping[str, Any] | None) -> dict[str, Any]:
    """A source's share of the funnel; all keys are there where nothing is damaged too."""
    own = damage or {"reasons": {}, "bytes": 0, "cut_short": 0, "sample": []}
    names = {"damaged": "reasons", "damaged_bytes": "bytes", "cut_short": "cut_short", "damaged_sample": "sample"}
    return {name: own[key] for name, key in names.items()}


def reasons(counts: Mapping[str, int]) -> str:
    """``3 bad_json, 1 too_long``, the most frequent first."""
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items(), key=lambda e: (-e[1], e[0])))
