"""Scores as values that compare, and what is wrong with one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmgraft.seams.evaluator import Score

__all__ = ["counts", "levelled", "plain", "unread", "unsound"]

#: Sums in another order.
_ROUNDING = 1e-9


def plain(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [
        {
            "name": score.name, "value": score.value, "unit": score.unit, "higher_is_better": score.higher_is_better,
            "reference": score.reference, "detail": dict(score.detail),
        }
        for score in scores
    ]  # fmt: skip


def unread(score: Any) -> str:
    if not isinstance(score.value, float | int):
        return f"its value is {score.value!r}, and a value is a finite number"
    return "" if isinstance(score.detail, Mapping) else f"its detail is {score.detail!r}, and a detail is a mapping"


def unsound(score: Any) -> str:
    if not math.isfinite(score.value):
        return f"its value is {score.value!r}, and a value is a finite number"
    if not isinstance(score.unit, str) or not isinstance(score.higher_is_better, bool):
        return f"its unit is {score.unit!r} and higher_is_better is {score.higher_is_better!r}"
    try:
        json.dumps(dict(score.detail), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"its detail is no JSON: {error}"
    return "" if score.reference or list(counts(score)) else f"its detail holds no number of items: {score.detail}"


def counts(score: Score) -> Iterator[int]:
    """The whole numbers in its detail."""
    for value in score.detail.values():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value


def levelled(first: Any, second: Any) -> Any:
    """``second`` with the first's numbers where they are as good as equal."""
    if isinstance(first, float) and isinstance(second, float):
        return first if math.isclose(first, second, rel_tol=_ROUNDING, abs_tol=1e-12) else second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {key: levelled(first.get(key), value) for key, value in second.items()}
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        rest = second[len(first) :]
        return [*(levelled(one, other) for one, other in zip(first, second, strict=False)), *rest]
    return second
