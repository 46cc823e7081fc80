"""From what a run left behind to what the page says: every number as text, every missing thing as a dash."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lmgraft.artifacts.scores import ScoreRow
from lmgraft.console import duration
from lmgraft.report import bars, curves
from lmgraft.report.facts import Facts, Metrics
from lmgraft.report.numbers import compact, count, moment

__all__ = ["charts", "environment", "header", "parts", "samples", "scores", "stages"]

#: (metric, title, unit, how it is drawn, how it is summed up). Others that a plugin reports follow by their names.
KNOWN: tuple[tuple[str, str, str, dict[str, bool], str], ...] = (
    ("loss", "Loss", "nats per token", {"log": True}, "lowest"),
    ("val_bits_per_byte", "Held-out bits per byte", "bits/byte", {}, "lowest"),
    ("lr", "Learning rate", "learning rate", {"from_zero": True}, "highest"),
    ("grad_norm", "Gradient norm before clipping", "L2 norm", {"log": True}, "highest"),
    ("tokens_per_second", "Speed", "tokens/s", {"from_zero": True}, "mean"),
    ("data_wait", "Waiting for data", "share of a step's time", {"from_zero": True}, "mean"),
)

#: Rows that have no chart of their own: one is an axis of the others, one is drawn into the loss.
DRAWN_ELSEWHERE = frozenset({"tokens", "val_loss"})

DASH = "–"


def header(run: Mapping[str, Any], fallback: str) -> dict[str, Any]:
    """The recipe's name, and pairs of (what, value)."""
    seconds = run.get("seconds")
    facts = {
        "Started": moment(run.get("started")),
        "Took": duration(float(seconds)) if isinstance(seconds, int | float) and seconds else "",
        "Seed": str(run.get("seed", "")),
        "Device": str(run.get("device") or (run.get("environment") or {}).get("device") or ""),
        "Command": _command(run),
    }
    return {
        "name": str(run.get("recipe_name") or fallback),
        "status": str(run.get("status") or "unknown"),
        "error": str(run.get("error") or ""),
        "facts": [(name, value) for name, value in facts.items() if value],
    }


def _command(run: Mapping[str, Any]) -> str:
    """What was typed, or what to type for the same recipe and overrides."""
    command = run.get("command")
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    source = run.get("recipe_source") or run.get("recipe_name")
    if command or not source:
        return str(command or "")
    return shlex.join(["lmgraft", "run", str(source), *(str(word) for word in run.get("overrides") or ())])


def scores(facts: Facts) -> list[dict[str, Any]]:
    """One table an evaluate stage: a row a figure, a column a model."""
    return [_score_table(stage, rows) for stage, rows in facts.scores.items() if rows]


def _score_table(stage: str, rows: Sequence[ScoreRow]) -> dict[str, Any]:
    models = list(dict.fromkeys(row["stage"] for row in rows))
    figures: dict[tuple[str, str], dict[str, ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: row["reference"]):
        figures.setdefault((row["evaluator"], row["name"]), {})[row["stage"]] = row
    shared = _shared(rows)
    return {
        "stage": stage,
        "models": models,
        "rows": [_score_line(row, models, shared) for row in figures.values()],
        "detailed": any(set(row["detail"]) - set(shared) for row in rows),
        "shared": [(key, count(value)) for key, value in shared.items()],
        "bars": _bits_per_byte(stage, rows),
    }


def _shared(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """What all figures have in common, so that it is said once: the split, the number of documents."""
    first = rows[0]["detail"]
    return {key: value for key, value in first.items() if all(row["detail"].get(key) == value for row in rows)}


def _score_line(found: Mapping[str, ScoreRow], models: Sequence[str], shared: Mapping[str, Any]) -> dict[str, Any]:
    row = next(iter(found.values()))
    values = [found[model]["value"] for model in models if model in found]
    best = max(values) if row["higher_is_better"] else min(values)
    competing = len(values) > 1 and not row["reference"]
    cells = [
        (_cell(found[model]), competing and found[model]["value"] == best) if model in found else (DASH, False)
        for model in models
    ]
    return {
        "name": row["name"],
        "evaluator": row["evaluator"],
        "unit": row["unit"],
        "cells": cells,
        "direction": "" if row["reference"] else "higher is better" if row["higher_is_better"] else "lower is better",
        "reference": row["reference"],
        # What differs between models belongs to a cell and not to the row.
        "detail": [
            (key, count(value))
            for key, value in row["detail"].items()
            if key not in shared
            and key not in OWN
            and all(other["detail"].get(key) == value for other in found.values())
        ],
    }


#: Details that stand in the cells, or nowhere: digests are for comparing runs by machine.
OWN = frozenset({"interval_95", "sha256"})


def _cell(row: ScoreRow) -> str:
    """The value, and its interval where there is one."""
    bounds = row["detail"].get("interval_95")
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return f"{row['value']:.4g}"
    return f"{row['value']:.4g} ({bounds[0]:.3g} to {bounds[1]:.3g})"


def _bits_per_byte(stage: str, rows: Sequence[ScoreRow]) -> list[tuple[str, Markup]]:
    """Models beside compressors on the same text: the one figure that compares them. An evaluator's name and its bars;
    where there is one evaluator alone the name is empty."""
    givers = list(dict.fromkeys(row["evaluator"] for row in rows if row["name"] == "bits_per_byte"))
    several = len(givers) > 1
    return [
        (
            giver if several else "",
            _bars(f"bpb-{stage}-{giver}" if several else f"bpb-{stage}", [r for r in rows if r["evaluator"] == giver]),
        )
        for giver in givers
    ]


def _bars(name: str, rows: Sequence[ScoreRow]) -> Markup:
    own = [bars.Bar(row["stage"], row["value"]) for row in rows if row["name"] == "bits_per_byte"]
    others = {row["name"]: row["value"] for row in rows if row["reference"] and row["name"].endswith("_bits_per_byte")}
    beside = [bars.Bar(f"{_compressor(name)} (same text)", value, True) for name, value in others.items()]
    return bars.draw([*own, *beside], id=name, title="Bits per byte, less is better", unit="bits/byte")


def _compressor(name: str) -> str:
    return name.removesuffix("_bits_per_byte") + " -9" * (name.startswith(("gzip_", "xz_")))


def charts(facts: Facts) -> list[dict[str, Any]]:
    """The curves of every stage that has rows."""
    return [
        {
            "stage": stage,
            "reused": metrics.reused,
            "skipped": metrics.skipped,
            "figures": [made for chart, told in _charts(stage, metrics, facts) if (made := _figure(chart, told))],
        }
        for stage, metrics in facts.metrics.items()
        if metrics.values
    ]


def _charts(stage: str, metrics: Metrics, facts: Facts) -> Iterator[tuple[curves.Chart, str]]:
    for name, title, unit, style, told in KNOWN:
        lines = [curves.Line("training", metrics.points(name), raw=name != "lr")]
        marks: list[tuple[str, float]] = []
        if name == "loss":
            lines.append(curves.Line("held-out", metrics.points("val_loss"), style="b", raw=False, dots=True))
        if name == "val_bits_per_byte":
            lines = [curves.Line("held-out", metrics.points(name), style="b", raw=False, dots=True)]
            marks = list(_compressors(stage, facts))
        yield curves.Chart(f"{stage}-{name}", title, unit, lines, marks, **style), told
    known = {name for name, *_ in KNOWN} | DRAWN_ELSEWHERE
    others = sorted(set(metrics.values) - known)
    for name in others:
        if name.startswith("val_") and name.removeprefix("val_") in others:
            continue  # drawn beside its namesake of the training rows
        lines = [curves.Line("training", metrics.points(name))]
        if f"val_{name}" in others:
            held_out = metrics.points(f"val_{name}")
            lines.append(curves.Line("held-out", held_out, style="b", raw=False, dots=True))
        yield curves.Chart(f"{stage}-{name}", name, name, lines, log=True), "highest"


def _compressors(stage: str, facts: Facts) -> Iterator[tuple[str, float]]:
    for rows in facts.scores.values():
        for row in rows:
            if row["stage"] == stage and row["reference"] and row["unit"] == "bits/byte":
                yield _compressor(row["name"]), row["value"]


def _figure(chart: curves.Chart, told: str) -> dict[str, Any] | None:
    drawing = curves.draw(chart)
    if not drawing:
        return None
    lines = [
        {"name": line.name, "style": line.style, "said": _said(line.points, told)}
        for line in chart.lines
        if line.points
    ]
    means = [curves.smooth(line.points)[1] for line in chart.lines if line.raw and line.points]
    return {"title": chart.title, "svg": drawing, "lines": lines, "mean": max(means, default=1)}


def _said(points: Sequence[curves.Point], told: str) -> str:
    values = [value for _, value in points]
    if told == "mean":
        return f"{compact(sum(values) / len(values))} on average"
    step, extreme = (min if told == "lowest" else max)(points, key=lambda point: point[1])
    return f"last {compact(values[-1])}, {told} {compact(extreme)} at step {step:,.0f}"


def samples(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "stage": row["stage"],
            "prompt": row["prompt"],
            "text": row["text"],
            "ended": "the model ended the text" if row["finished"] else "cut at the limit",
            "copied": _copied(row["longest_copy"], len(row["text"])),
        }
        for row in facts.samples
    ]


def _copied(longest: int | None, length: int) -> str:
    if longest is None:
        return ""
    return f"longest span that also stands in the training text: {longest:,} of {length:,} characters"


def stages(run: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, stage in (run.get("stages") or {}).items():
        seconds, built = stage.get("seconds"), stage.get("built_seconds")
        took = duration(float(seconds)) if isinstance(seconds, int | float) else DASH
        if stage.get("status") == "reused" and isinstance(built, int | float):
            took += f" (built in {duration(float(built))})"
        rows.append(
            {
                "name": str(name),
                "kind": str(stage.get("kind") or DASH),
                "status": str(stage.get("status") or "unknown"),
                "took": took,
                "key": str(stage.get("key") or ""),
                "digest": str(stage.get("digest") or ""),
            }
        )
    return rows


def parts(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """The recipe's parts; one that serves several stages stands once, with all of them."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for part in run.get("components") or ():
        source = part.get("source") or ""
        if isinstance(source, Mapping):
            pinned = source.get("commit") or source.get("package_sha256") or ""
            source = f"{source.get('kind', '')} {str(pinned)[:12]}".strip()
        names = [str(part.get(key) or "") for key in ("seam", "name", "distribution", "version")]
        rows.setdefault((*names, str(source)), []).append(str(part.get("stage") or ""))
    keys = ("seam", "name", "distribution", "version", "source")
    return [dict(zip(keys, row, strict=True)) | {"stages": ", ".join(filter(None, at))} for row, at in rows.items()]


def environment(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flat (name, value) pairs; versions of libraries last."""
    found = dict(run.get("environment") or {})
    versions = found.pop("versions", None) or {}
    pairs = [(name, value) for name, value in found.items() if value is not None]
    return [(str(name), str(value)) for name, value in [*pairs, *versions.items()]]
