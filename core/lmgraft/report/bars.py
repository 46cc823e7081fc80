"""Horizontal bars as inline SVG: a handful of figures side by side, each with its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Bar", "draw"]

WIDTH, ROW, LABEL, NUMBER = 640, 30, 190, 70


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    reference: bool = False
    """Drawn in grey: not the model's own."""


def draw(bars: Sequence[Bar], *, id: str, title: str, unit: str) -> Markup:  # noqa: A002 - the attribute's name
    """The SVG, from zero; figures that are not finite have a number and no bar."""
    finite = [bar.value for bar in bars if math.isfinite(bar.value)]
    longest = max(finite, default=0.0) or 1.0
    said = "; ".join(f"{bar.name}: {bar.value:.3f} {unit}" for bar in bars)
    name = escape(id)
    head = Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>'
    ).format(WIDTH, ROW * len(bars), name, name, name, title, name, said)
    rows = [_row(bar, number * ROW, longest) for number, bar in enumerate(bars)]
    return Markup("").join([head, *rows, Markup("</svg>")])


def _row(bar: Bar, top: int, longest: float) -> Markup:
    share = max(0.0, bar.value / longest) if math.isfinite(bar.value) else 0.0
    width = max(1.0, share * (WIDTH - LABEL - NUMBER))
    return Markup(
        '<text class="name{}" x="{}" y="{}">{}</text>'
        '<rect class="{}" x="{}" y="{}" width="{:.1f}" height="{}" rx="3"/>'
        '<text class="value" x="{:.1f}" y="{}">{:.3f}</text>'
    ).format(
        "" if bar.reference else " own",
        LABEL - 12,
        top + 19,
        bar.name,
        "reference" if bar.reference else "own",
        LABEL,
        top + 6,
        width,
        ROW - 12,
        LABEL + width + 8,
        top + 19,
        bar.value,
    )
