"""Line plots side by side as one SVG file: both axes in logarithms, values of x as they were chosen, readable on light
and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Plot", "draw"]

Line = tuple[str, Sequence[tuple[float, float]]]

WIDTH, HEIGHT = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 44
LEGEND = 18
#: Told apart without colour too: by their marks' order in the legend, and by name.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True, slots=True)
class Plot:
    """One of the plots."""

    title: str
    x: str
    """What the axis along shows."""
    y: str
    """What the axis upward shows."""
    lines: Sequence[Line]
    """(name, points (x, y)), all above 0."""
    best: bool = False
    """Mark the lowest point of each line."""


def draw(plots: Sequence[Plot], *, shared: bool = False) -> str:
    """The SVG file; ``shared``: all plots have the same range upward. Lines with the same place in their plot have the
    same colour, and the legend is the first plot's."""
    everything = [y for plot in plots for _, points in plot.lines for _, y in points]
    legend = [name for name, _ in plots[0].lines]
    height = HEIGHT + LEGEND + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(plots)} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="none">',
        f"<title>{escape('; '.join(plot.title for plot in plots))}</title>",
        "<style>text{fill:#333}.grid{stroke:#8884;stroke-width:1}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
    ]
    for number, plot in enumerate(plots):
        own = everything if shared else [y for _, points in plot.lines for _, y in points]
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_plot(plot, min(own), max(own)), "</g>"]
    along = LEFT
    for name, colour in zip(legend, COLOURS, strict=False):
        y = HEIGHT + LEGEND / 2
        parts.append(f'<line x1="{along}" y1="{y}" x2="{along + 20}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{along + 26}" y="{y + 4}">{escape(name)}</text>')
        along += 44 + 7 * len(name)
    return "\n".join([*parts, "</svg>", ""])


def _plot(plot: Plot, low: float, high: float) -> list[str]:
    xs = sorted({x for _, points in plot.lines for x, _ in points})
    pad = (high / low) ** 0.06
    low, high = low / pad, high * pad

    def px(x: float) -> str:
        share = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        return f"{LEFT + 8 + share * (WIDTH - LEFT - RIGHT - 16):.1f}"

    def py(y: float) -> str:
        share = math.log(y / low) / math.log(high / low)
        return f"{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"

    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [f'<text x="{middle}" y="20" text-anchor="middle" font-weight="600">{escape(plot.title)}</text>']
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(tick)}" y2="{py(tick)}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(tick)}" dy="4" text-anchor="end">{tick:g}</text>')
    for x in xs:
        parts.append(f'<text x="{px(x)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(plot.x)}</text>')
    turned = f"translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(plot.y)}</text>')
    for (_, points), colour in zip(plot.lines, COLOURS, strict=False):
        steps = " ".join(f"{px(x)},{py(y)}" for x, y in points)
        parts.append(f'<polyline points="{steps}" stroke="{colour}" stroke-width="2"/>')
        lowest = min(points, key=lambda point: point[1])
        for point in points:
            big = plot.best and point == lowest
            dot = f'cx="{px(point[0])}" cy="{py(point[1])}" r="{5 if big else 2.5}" fill="{colour}"'
            parts.append(f"<circle {dot}/>")
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade, or even steps where less than three of them fall between."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
    inside = [tick for tick in found if low <= tick <= high]
    if len(inside) > 8:
        inside = [tick for tick in inside if f"{tick:e}".startswith("1")]
    if len(inside) >= 3:
        return inside
    step = next(size for size in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if (high - low) / size < 8)
    return [round(number * step, 4) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
