"""The funnel of a corpus stage: a chart of what each filter left and dropped, its sources, samples of what is gone.

The keys are those of :mod:`lmgraft.stages.corpus`; an older funnel lacks some, and has its page too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from lmgraft.report.numbers import count, size

__all__ = ["funnel"]

WIDTH, LABEL, BAR, ROW, REASONS = 760, 170, 420, 46, 4


def funnel(stage: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of one corpus stage."""
    steps, documents, sizes = data.get("filters") or [], data.get("documents") or {}, data.get("bytes") or {}
    sources: Mapping[str, Any] = data.get("sources") or {}
    reads = {name: source.get("read") or {} for name, source in sources.items()}
    written = sum(documents.values())
    seen = sum(read.get("documents", 0) for read in reads.values()) or (steps[0]["seen"] if steps else written)
    # A mixture repeats documents: what is written says nothing of what was kept.
    kept = int(steps[-1].get("kept", 0)) if data.get("mixture") and steps else seen if data.get("mixture") else written
    return {
        "stage": stage,
        "seen": count(seen),
        "kept": count(kept),
        "share": _share(kept, seen),
        "chart": _chart(stage, seen, steps, documents),
        "reads": [_amount(name, read.get("documents", 0), read.get("bytes", 0), seen) for name, read in reads.items()],
        "steps": [_step(step, seen) for step in steps],
        "splits": [_amount(name, number, sizes.get(name, 0), seen) for name, number in documents.items()],
        "sources": [_source(name, source, sources, data.get("mixture")) for name, source in sources.items()],
        "mixture": _mixture(data.get("mixture")),
        "damage": [told for name, source in sources.items() if (told := _damage(name, source))],
    }


def _amount(name: str, documents: int, text: int, seen: int) -> dict[str, str]:
    return {"name": name, "documents": count(documents), "bytes": size(text), "bar": _share(documents, seen)}


def _share(number: float, whole: float) -> str:
    """A share as a CSS width and a text: ``12.5%``. A mixture may write more than was read: no bar is wider."""
    return f"{min(100.0, 100 * number / max(1, whole)):.1f}%"


# --- filters ----------------------------------------------------------------------------------------------------------


def _step(step: Mapping[str, Any], all_seen: int) -> dict[str, Any]:
    dropped = dict(step.get("dropped") or {})
    kept = int(step.get("kept", 0))
    return {
        "name": str(step.get("name", "")),
        "kept": count(kept),
        "bar": _share(kept, all_seen),
        "rewritten": count(step.get("rewritten", 0)) if step.get("rewritten") else "",
        "counts": _told(dict(step.get("counts") or {})),
        "dropped": count(sum(dropped.values())),
        "reasons": [(reason, count(number), _share(number, all_seen)) for reason, number in _ordered(dropped)],
        "sample": [
            {"reason": reason, "number": count(dropped.get(reason, len(rows))), "rows": rows}
            for reason, rows in _by_reason(step.get("sample") or ()).items()
        ],
        "noted": [(str(row.get("id", "")), str(row.get("note", ""))) for row in step.get("noted") or ()],
    }


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _told(counts: Mapping[str, int], most: int | None = None) -> str:
    """``3 bad_json, 1 too_long``, the most frequent first."""
    said = [f"{count(number)} {name}" for name, number in _ordered(counts)]
    rest = len(said) - (most or len(said))
    return ", ".join(said[:most]) + (f" and {rest} more" if rest > 0 else "")


def _by_reason(sample: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in sample:
        told = {key: str(row.get(key, "")) for key in ("id", "text")}
        found.setdefault(str(row.get("reason", "")), []).append(told)
    return found


# --- the chart --------------------------------------------------------------------------------------------------------


def _chart(stage: str, seen: int, steps: Sequence[Mapping[str, Any]], splits: Mapping[str, int]) -> Markup:
    """Documents as bars: what was read, what each filter left, with what it dropped beside it by reason, the splits."""
    rows: list[tuple[str, str, int, dict[str, int]]] = [("read", "own", seen, {})]
    for step in steps:
        rows.append((str(step.get("name", "")), "own", int(step.get("kept", 0)), dict(step.get("dropped") or {})))
    rows += [(f"{name} split", "reference", number, {}) for name, number in splits.items() if number]
    longest = max([1, *(number + sum(dropped.values()) for _, _, number, dropped in rows)])
    said = "; ".join(f"{name}: {number:,}" + _lost(dropped) for name, _, number, dropped in rows)
    name = escape(f"funnel-{stage}")
    head = Markup(
        '<svg class="bars funnel" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">Documents left after each filter of {}</title><desc id="{}-desc">{}</desc>'
    ).format(WIDTH, ROW * len(rows), name, name, name, stage, name, said)
    drawn = [piece for number, row in enumerate(rows) for piece in _row(row, number * ROW, longest, seen)]
    return Markup("").join([head, *drawn, Markup("</svg>")])


def _lost(dropped: Mapping[str, int]) -> str:
    return f", dropped {_told(dropped)}" if dropped else ""


def _row(row: tuple[str, str, int, dict[str, int]], top: int, longest: int, seen: int) -> Iterator[Markup]:
    name, kind, number, dropped = row
    at = float(LABEL)
    yield Markup('<text class="name {}" x="{}" y="{}">{}</text>').format(kind, LABEL - 12, top + 17, _clipped(name))
    bar = Markup('<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="18"{}><title>{}</title></rect>')
    width = BAR * number / longest
    yield bar.format(kind, at, top + 3, max(1.0, width), "", f"{name}: {number:,}")
    at += width
    for place, (reason, lost) in enumerate(_ordered(dropped)):
        width = BAR * lost / longest
        shade = Markup(' fill-opacity="{}"').format(max(0.25, round(1 - 0.25 * place, 2)))
        yield bar.format("drop", at, top + 3, width, shade, f"{name}: {lost:,} {reason}")
        at += width
    share = f"{number:,} ({100 * number / max(1, seen):.1f}%)"
    yield Markup('<text class="value" x="{:.1f}" y="{}">{}</text>').format(at + 8, top + 17, share)
    if dropped:
        yield Markup('<text class="reasons" x="{}" y="{}">− {}</text>').format(LABEL, top + 36, _told(dropped, REASONS))


def _clipped(name: str) -> str:
    return name if len(name) <= 21 else f"{name[:20]}…"


# --- sources ----------------------------------------------------------------------------------------------------------


def _source(
    name: str, source: Mapping[str, Any], every: Mapping[str, Any], mixture: Mapping[str, Any] | None
) -> dict[str, str]:
    """A row of the table of sources; of a mixture what it gave to the training split."""
    read, row = source.get("read") or {}, ((mixture or {}).get("sources") or {}).get(name) or {}
    given = row or source
    whole = sum(other.get("bytes", 0) for other in every.values())
    share = row.get("share", source.get("bytes", 0) / max(1, whole))
    return {
        "name": name,
        "read": f"{count(read.get('documents', 0))} ({size(read.get('bytes', 0))})",
        "documents": count(given.get("documents", 0)),
        "bytes": size(given.get("bytes", 0)),
        "share": f"{100 * share:.1f}%",
        "weight": f"{row['weight']:g}" if "weight" in row else "–",
        "wanted": f"{100 * row['wanted_share']:.1f}%" if "wanted_share" in row else "–",
        "epochs": f"{row['epochs']:.3g}" if "epochs" in row else "–",
        "printed": f"{row['printed_epochs']:g}" if "printed_epochs" in row else "–",
        "why": str(row.get("why") or ""),
    }


def _mixture(mixture: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not mixture:
        return None
    rows = (mixture.get("sources") or {}).values()
    total, unit = mixture.get("total", 0), str(mixture.get("unit", "bytes"))
    return {
        "unit": unit,
        "total": size(total) if unit == "bytes" else f"{count(total)} documents",
        "weights": f"{mixture.get('weights', 0):g}",
        "printed": any("printed_epochs" in row for row in rows),
    }


def _damage(name: str, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """What could not be read of a source, where the stage goes on behind it."""
    damaged = dict(source.get("damaged") or {})
    if not damaged:
        return None
    return {
        "name": name,
        "number": count(sum(damaged.values())),
        "told": _told(damaged),
        "bytes": size(source["damaged_bytes"]) if source.get("damaged_bytes") else "",
        "cut": count(source["cut_short"]) if source.get("cut_short") else "",
        "sample": [
            {key: str(row.get(key, "")) for key in ("unit", "reason", "fact")}
            for row in source.get("damaged_sample") or ()
        ],
    }
