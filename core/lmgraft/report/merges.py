"""What a merge cost and what training made good: held-out loss before it, right after it, and until the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmgraft.report import curves
from lmgraft.report.facts import Facts

__all__ = ["merges"]

LOSSES = (("val_bits_per_byte", "Held-out bits per byte", "bits/byte"), ("val_loss", "Held-out loss", "nats per token"))


def merges(facts: Facts) -> list[dict[str, Any]]:
    """One entry for each train stage that starts from a merge of trained models and was validated before its first
    step. Where the stages before and after read other data their losses do not compare, and there is no entry."""
    return [entry for stage in facts.metrics if (entry := _entry(stage, facts)) is not None]


def _entry(stage: str, facts: Facts) -> dict[str, Any] | None:
    recipe: Mapping[str, Any] = facts.run.get("recipe") or {}
    merge = _settings(recipe, stage).get("model")
    merged = _settings(recipe, str(merge))
    if merge is None or merged.get("kind") != "merge":
        return None
    data = _settings(recipe, stage).get("data")
    before = [
        name
        for name in _trained(merged, recipe)
        if name in facts.metrics and _settings(recipe, name).get("data") == data
    ]
    for metric, title, unit in LOSSES:
        after = facts.metrics[stage].points(metric)
        earlier = {name: points for name in before if (points := facts.metrics[name].points(metric))}
        if after and after[0][0] == 0 and earlier:
            return _told(
                stage, str(merge), earlier, after, curves.Chart(f"merge-{stage}", title, unit, _lines(earlier, after))
            )
    return None


def _settings(recipe: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    node = recipe.get(stage)
    return node if isinstance(node, Mapping) else {}


def _trained(merged: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    """The train stages whose models were merged, through merges of merges."""
    for name in merged.get("models") or ():
        node = _settings(recipe, str(name))
        if node.get("kind") == "merge":
            yield from _trained(node, recipe)
        else:
            yield str(name)


def _lines(before: Mapping[str, Sequence[curves.Point]], after: Sequence[curves.Point]) -> list[curves.Line]:
    """The steps after the merge are counted on from the longest training before it."""
    end = max(points[-1][0] for points in before.values())
    lines = [curves.Line(f"{name}, before", points, raw=False, dots=True) for name, points in before.items()]
    moved = [(end + step, value) for step, value in after]
    return [*lines, curves.Line("after the merge", moved, style="b", raw=False, dots=True)]


def _told(
    stage: str,
    merge: str,
    before: Mapping[str, Sequence[curves.Point]],
    after: Sequence[curves.Point],
    chart: curves.Chart,
) -> dict[str, Any]:
    best = min(points[-1][1] for points in before.values())
    first, last = after[0][1], after[-1][1]
    lost, regained = first - best, first - last
    shown = f"{best:.4g}", f"{first:.4g}"
    moved = f"{'raised' if lost > 0 else 'lowered'} {chart.title.lower()} from {shown[0]} to {shown[1]}"
    if shown[0] == shown[1]:  # block expansion begins as the identity
        moved = f"left {chart.title.lower()} at {shown[0]}"
    reached = next((step for step, value in after if value <= best), None)
    if reached == after[0][0]:
        end = f"{stage} ended at {last:.4g}."
    elif reached is not None:
        end = f"{stage} was back at {best:.4g} by step {reached:,.0f} and ended at {last:.4g}."
    else:
        end = f"{stage} ended at {last:.4g} after {after[-1][0]:,.0f} steps, {last - best:.4g} above what it had been."
    return {
        "stage": stage,
        "merge": merge,
        "unit": chart.unit,
        "before": f"{best:.4f}",
        "after": f"{first:.4f}",
        "end": f"{last:.4f}",
        "regained": f"{100 * regained / lost:.0f}%" if lost > 0 else "",
        "said": f"{merge} {moved}; {end}",
        "title": chart.title,
        "svg": curves.draw(chart),
        "lines": [{"name": line.name, "style": line.style} for line in chart.lines],
    }
