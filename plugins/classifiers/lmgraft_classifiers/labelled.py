"""Labelled rows: read, checked, and a tenth of them held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from lmgraft.errors import Problem, UserError

__all__ = ["Labelled", "Measured", "named", "read", "scored", "threshold_for"]

#: Rows of each kind that a classifier needs at least.
LEAST = 2
#: Rows that a threshold is judged by at least.
SUPPORT = 10


@dataclass(frozen=True)
class Labelled:
    """Texts and whether each is of the kind that is looked for."""

    texts: list[str]
    wanted: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    """A tenth, chosen by seed and text: equal texts are never on both sides, and the order of rows does not matter."""

    def part(self, held_out: bool) -> tuple[list[str], npt.NDArray[np.bool_]]:
        """(texts, wanted) of the rows that are held out, or of the others."""
        chosen = self.held_out == held_out
        return [text for text, here in zip(self.texts, chosen, strict=True) if here], self.wanted[chosen]


@dataclass(frozen=True)
class Measured:
    """What a classifier did on rows that it was not fitted to."""

    rows: int
    threshold: float
    precision: float | None
    """None where nothing reached the threshold."""
    recall: float | None
    """None where no row was wanted."""

    @classmethod
    def of(cls, scores: npt.NDArray[np.float64], wanted: npt.NDArray[np.bool_], threshold: float) -> Measured:
        chosen = scores >= threshold
        right = int((chosen & wanted).sum())
        precision = right / int(chosen.sum()) if chosen.any() else None
        return cls(len(wanted), threshold, precision, right / int(wanted.sum()) if wanted.any() else None)


def read(
    rows: Iterable[Mapping[str, Any]],
    path: str,
    key: str,
    columns: tuple[str, str],
    is_wanted: Callable[[Any], bool | None],
    seed: int,
    max_chars: int | None = None,
) -> Labelled:
    """Reads rows with a text and a label in ``columns``; ``key`` is the setting that names them, for messages.

    :param is_wanted: of a label; None: it is none.
    :raises UserError: no rows, a column that a row lacks, a label that is none, or one kind of rows alone.
    """
    texts: list[str] = []
    wanted: list[bool] = []
    for number, row in enumerate(rows, start=1):
        text, label = (_value(row, column, path, number, key) for column in columns)
        kind = is_wanted(label)
        if kind is None:
            fact = f"{path}, row {number}: the label {label!r} is no number"
            raise UserError(Problem(fact, f"{key}.min_score compares numbers", f"mend it, or set {key}.good"))
        texts.append(str(text)[:max_chars])
        wanted.append(kind)
    labelled = Labelled(texts, np.array(wanted, bool), np.array([_tenth(text, seed) for text in texts], bool))
    _check(path, key, labelled.part(held_out=False)[1], columns[1])
    return labelled


def named(names: Iterable[str]) -> Callable[[Any], bool]:
    """Whether a label is one of ``names``: case and blanks apart, 1.0 as 1."""
    known = {_plain(name) for name in names}
    return lambda label: _plain(label) in known


def scored(least: float) -> Callable[[Any], bool | None]:
    """Whether a label is a number of ``least`` or more."""

    def is_wanted(label: Any) -> bool | None:
        try:
            return float(label) >= least
        except (TypeError, ValueError):
            return None

    return is_wanted


def threshold_for(scores: npt.NDArray[np.float64], wanted: npt.NDArray[np.bool_], precision: float, key: str) -> float:
    """The lowest threshold at which a share of ``precision`` of what reaches it is wanted.

    A share of a handful of rows says little: a threshold is reached by ten rows at least, and by a twentieth of as many
    as are wanted.

    :raises UserError: there is none.
    """
    order = np.argsort(-scores, kind="stable")
    chosen = np.arange(1, len(order) + 1)
    reached = np.cumsum(wanted[order]) / chosen
    # Equal scores stand or fall together.
    last = np.append(np.diff(scores[order]) != 0, True) if len(order) else np.zeros(0, bool)
    enough = last & (chosen >= max(SUPPORT, wanted.sum() / 20))
    good = np.flatnonzero(enough & (reached >= precision))
    if len(good):
        return float(scores[order][good[-1]])
    best = f"the best is {reached[enough].max():.3f}" if enough.any() else f"so few say nothing: it takes {SUPPORT}"
    fact = f"{key}.precision={precision:g} is not reached on the {len(order)} rows that are held out"
    raise UserError(Problem(fact, best, f"lower {key}.precision, or label more rows"))


def _value(row: Mapping[str, Any], column: str, path: str, number: int, key: str) -> Any:
    value = row.get(column)
    if value is None:
        fact = f"{path}, row {number} has no {column!r}"
        setting = f"{key}.text and {key}.label name the columns of texts and labels"
        columns = ", ".join(str(name) for name in row if name is not None) or "none"
        raise UserError(Problem(fact, f"its columns are {columns}", setting))
    return value


def _check(path: str, key: str, wanted: npt.NDArray[np.bool_], column: str) -> None:
    if not len(wanted):
        raise UserError(Problem(f"{path} has no rows", f"{key} is fitted to labelled rows", f"{key}.labelled=PATH"))
    yes = int(wanted.sum())
    for kind, number in (("are of the kind that is looked for", yes), ("are of the other kind", len(wanted) - yes)):
        if number < LEAST:
            fact = f"{path}: of the {len(wanted)} rows to fit to, {number} {kind}"
            remedy = f"check which labels of {column!r} the settings of {key} name, or label more rows"
            raise UserError(Problem(fact, f"a classifier needs {LEAST} rows of each kind at least", remedy))


def _tenth(text: str, seed: int) -> bool:
    digest = blake2b(f"{seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10 == 0


def _plain(label: Any) -> str:
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip().lower()
