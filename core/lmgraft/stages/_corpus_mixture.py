"""A mixture of sources: what each is to give, how often that takes its documents, and a paper's table beside it.

The weights are those of GPT-3's table (Brown et al. 2020, arXiv 2005.14165, table 2.2). There a weight is a share of
what is trained on, so a small source of high weight is seen several times and a large one in part:
epochs = weight * total / size. Their weights add up to 101, being rounded; here each counts as its share of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from lmgraft.errors import Problem, UserError
from lmgraft.seams.stage import StageContext
from lmgraft.stages._corpus_crew import Crew
from lmgraft.stages._corpus_groups import Ints, Quota, Selection
from lmgraft.stages._corpus_pipeline import Survivors
from lmgraft.stages._corpus_shards import Weighed, Weighing, bucket_rows, weigh
from lmgraft.stages.mixing import Mixture

__all__ = ["Mixed", "absent", "apportion", "beside", "mix", "targets"]

OFTEN = 4
"""Epochs up to which repeated text is worth nearly as much as new (Muennighoff et al. 2023, arXiv 2305.16264)."""


@dataclass(frozen=True)
class Mixed:
    """What a mixture decided."""

    settings: Mixture
    weights: dict[str, float]
    """Of the sources that are read."""
    had: dict[str, Weighed]
    """Source -> its training documents, before any is repeated or left out."""
    targets: dict[str, int]
    """Source -> bytes or documents that it is to give."""
    quotas: dict[str, Quota]

    @property
    def mark(self) -> str:
        return "~" * (1 + max(found.tildes for found in self.had.values()))

    def as_json(self, written: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """The funnel's account; ``written`` is what each source gave to the training split."""
        unit = "documents" if self.settings.documents is not None else "bytes"
        given = {name: int(written.get(name, {}).get(unit, 0)) for name in self.weights}
        whole, total = max(1, sum(self.targets.values())), max(1, sum(given.values()))
        rows: dict[str, Any] = {}
        for name, weight in self.weights.items():
            had = {"documents": self.had[name].documents, "bytes": self.had[name].bytes}
            rows[name] = {
                "weight": weight,
                "had": had,
                "wanted": self.targets[name],
                "wanted_share": round(self.targets[name] / whole, 6),
                "documents": int(written.get(name, {}).get("documents", 0)),
                "bytes": int(written.get(name, {}).get("bytes", 0)),
                "share": round(given[name] / total, 6),
                "epochs": round(given[name] / max(1, had[unit]), 4),
            }
            rows[name] |= beside(name, self.settings, rows[name]["epochs"])
        return {"unit": unit, "total": sum(self.targets.values()), "weights": _sum(self.weights), "sources": rows}


def mix(context: StageContext, crew: Crew, settings: Mixture, survivors: Survivors, selection: Selection) -> Mixed:
    """Decides how often each document of the training split is taken.

    Two passes over the parts' ids and sizes: the first adds up the 65,536 buckets of each source's order, the second
    lists the one bucket in which each source's share ends. Raises :class:`UserError` where a source of some weight has
    nothing to give.
    """
    weights = {name: settings.weights[name] for name in survivors.read if name in settings.weights}
    tasks = [
        Weighing(part, survivors.folder, selection, by_document=settings.documents is not None)
        for part in survivors.parts
        if part.source in weights
    ]
    had = _weighed(crew, tasks)
    sizes = {name: int(found.buckets.sum()) for name, found in had.items()}
    for name, weight in weights.items():
        if weight and not sizes[name]:
            fact = f"{context.name}: {name} has the weight {weight:g} in the mixture, and nothing to train on"
            cause = "the filters, or what is held out, left none of its text"
            remedy = f"{context.name}.mixture.weights.{name}=0, or loosen the filters for it"
            raise UserError(Problem(fact, cause, remedy))
    wanted = targets(settings, weights, sizes)
    _tell(context, weights, {name: wanted[name] / max(1, sizes[name]) for name in weights})
    return Mixed(settings, weights, had, wanted, _quotas(crew, tasks, had, wanted))


def _weighed(crew: Crew, tasks: Sequence[Weighing]) -> dict[str, Weighed]:
    found: dict[str, Weighed] = {}
    for task, part in zip(tasks, crew.map(weigh, tasks), strict=True):
        name = task.part.source
        found[name] = found[name].plus(part) if name in found else part
    return found


def _tell(context: StageContext, weights: Mapping[str, float], epochs: Mapping[str, float]) -> None:
    total = _sum(weights)
    if total not in (1, 100):
        told = f"mixture.weights add up to {total:g}, not to 100; each counts as its share of {total:g}"
        context.note(f"{context.name}: {told}")
    for name, times in epochs.items():
        if times > OFTEN:
            told = f"{name} is taken {times:.1f} times; beyond about {OFTEN}, repeats are worth far less than new text"
            context.note(f"{context.name}: {told}")


def absent(told: Mapping[str, Any]) -> Iterator[str]:
    """What to say of sources that have a weight and gave nothing, in a mixture as the funnel has it."""
    for name, row in told["sources"].items():
        if row["wanted"] and not row["documents"]:
            cause = f"the next of its {row['had']['documents']:,} documents is above its share, {row['wanted']:,} bytes"
            remedy = "take a larger total, or cut its documents"
            yield f"warning: {name} (weight {row['weight']:g}) gives nothing: {cause}; {remedy}"


def _sum(weights: Mapping[str, float]) -> float:
    return float(sum(map(_exact, weights.values())))


def _exact(number: float) -> Fraction:
    """The number as it was written: .1 is a tenth."""
    return Fraction(repr(number))


# --- what each source is to give --------------------------------------------------------------------------------------


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """``total`` shared out by weight in whole numbers: the largest remainders are rounded up, of equal ones the first
    (Hamilton's method). The parts add up to ``total``, each within one of its exact share."""
    exact = [_exact(weight) for weight in weights]
    shares = [total * weight / sum(exact) for weight in exact]
    parts = [math.floor(share) for share in shares]
    order = sorted(range(len(parts)), key=lambda place: (parts[place] - shares[place], place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts


def targets(settings: Mixture, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, int]:
    """Source -> what it is to give. Without a total the scarcest source gives all that it has, and no other more."""
    total = settings.documents if settings.documents is not None else settings.bytes
    if total is not None:
        return dict(zip(weights, apportion(total, list(weights.values())), strict=True))
    exact = {name: _exact(weight) for name, weight in weights.items()}
    scarce = min(sizes[name] / weight for name, weight in exact.items() if weight)
    return {name: math.floor(scarce * weight) for name, weight in exact.items()}


# --- how often that takes its documents -------------------------------------------------------------------------------


def _quotas(
    crew: Crew, tasks: Sequence[Weighing], had: Mapping[str, Weighed], wanted: Mapping[str, int]
) -> dict[str, Quota]:
    quotas: dict[str, Quota] = {}
    parted: dict[str, tuple[int, int, int]] = {}
    for name, found in wanted.items():
        buckets = had[name].buckets
        epochs, rest = divmod(found, max(1, int(buckets.sum())))
        quotas[name] = Quota(epochs)
        if rest:
            ends = np.cumsum(buckets)
            bucket = int(np.searchsorted(ends, rest, side="right"))
            parted[name] = (epochs, bucket, rest - int(ends[bucket] - buckets[bucket]))
    listed: dict[str, list[tuple[Any, Ints]]] = {name: [] for name in parted}
    again = [
        Weighing(task.part, task.parts, task.selection, task.by_document, parted[task.part.source][1])
        for task in tasks
        if task.part.source in parted
    ]
    for task, rows in zip(again, crew.map(bucket_rows, again), strict=True):
        listed[task.part.source].append(rows)
    for name, (epochs, _, rest) in parted.items():
        quotas[name] = Quota(epochs, _threshold(listed[name], rest))
    return quotas


def _threshold(rows: Sequence[tuple[Any, Ints]], rest: int) -> int:
    """The hash of the first document, of a bucket in order, that would carry it above ``rest``."""
    order, counts = (np.concatenate(columns) for columns in zip(*rows, strict=True))
    places = np.argsort(order, kind="stable")
    ends = np.cumsum(counts[places])
    return int(order[places[int(np.searchsorted(ends, rest, side="right"))]])


# --- beside a paper's table -------------------------------------------------------------------------------------------


def beside(name: str, settings: Mixture, ours: float) -> dict[str, Any]:
    """The epochs that a paper prints for a source, those that its own table gives, and why they are not ours."""
    printed = settings.printed
    if name not in printed.epochs:
        return {}
    found: dict[str, Any] = {"printed_epochs": printed.epochs[name]}
    if printed.total is None or name not in printed.sizes:
        return found | {
            "why": "" if _agrees(ours, printed.epochs[name]) else "the table's sizes or total are not given"
        }
    whole = _whole(settings.weights)
    weight, size = settings.weights[name], printed.sizes[name]
    plain = weight / whole * printed.total / size
    low = (weight - _half(weight)) / whole * printed.total / (size + _half(size))
    high = (weight + _half(weight)) / whole * printed.total / (size - _half(size))
    found |= {"table_epochs": round(plain, 4), "table_range": [round(low, 4), round(high, 4)]}
    return found | {"why": "; ".join(_reasons(name, settings, ours, plain, (low, high)))}


def _reasons(name: str, settings: Mixture, ours: float, plain: float, bounds: tuple[float, float]) -> Iterator[str]:
    printed, total, whole = settings.printed.epochs[name], _sum(settings.weights), _whole(settings.weights)
    low, high = bounds
    half = _half(printed)
    weight, size = f"{settings.weights[name]:g}", f"{settings.printed.sizes[name]:g}"
    if not _agrees(plain, printed):
        within = printed - half <= high and printed + half >= low
        how = "so rounding explains it" if within else "so its rounded table cannot give it"
        yield f"{weight} and {size} as printed give {plain:.3g}; rounded, they stand for {low:.3g} to {high:.3g}, {how}"
    if total != whole:
        yield f"the weights add up to {total:g}, so ours count for {whole / total:.3g} of what they say"
    expected = plain * whole / total
    if abs(ours - expected) > 0.005 * expected:
        yield f"with its sizes and total ours would be {expected:.3g}: this corpus has others"


def _agrees(value: float, printed: float) -> bool:
    """Whether a value rounds to what is printed."""
    return abs(value - printed) <= _half(printed) * (1 + 1e-9)


def _half(number: float) -> float:
    """Half a unit of a printed number's last digit: .5 of 60, .005 of 0.44."""
    digits = Fraction(repr(number)).limit_denominator(10**9).denominator
    places = 0
    while 10**places % digits:
        places += 1
    return float(Fraction(1, 2 * 10**places))


def _whole(weights: Mapping[str, float]) -> int:
    """What weights that were not rounded would add up to: 1, or 100."""
    return 100 if _sum(weights) > 10 else 1
