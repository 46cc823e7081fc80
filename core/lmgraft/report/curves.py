"""Line charts as inline SVG: a pale raw line, a strong smoothed one, axes with ticks, a title and a description.

Colours are classes that the page's style sheet fills in, so one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from lmgraft.report.numbers import compact, linear_ticks, log_ticks, tick_labels

__all__ = ["Chart", "Line", "Point", "draw", "smooth", "thin"]

Point = tuple[float, float]

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 40

#: Points of a line beyond which it is thinned: more than the drawing has pixels.
POINTS = 400

#: A measured axis is drawn in logarithms where the largest value is this many times the smallest.
LOG_RATIO = 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    style: str = "a"
    """The class of its colour: ``a`` or ``b``."""
    raw: bool = True
    """Noisy: drawn pale, with a moving mean over it."""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What one drawing shows."""

    id: str
    title: str
    unit: str
    lines: Sequence[Line]
    marks: Sequence[tuple[str, float]] = field(default_factory=tuple)
    """(name, value) of horizontal dashed lines."""
    from_zero: bool = False
    log: bool = False
    """May be drawn in logarithms where the values span orders of magnitude."""


def thin(points: Sequence[Point], limit: int = POINTS) -> list[Point]:
    """At most ``limit`` points: of each bin the lowest and the highest, so that no spike is lost."""
    if len(points) <= limit:
        return list(points)
    bins = limit // 2
    kept: list[Point] = []
    for number in range(bins):
        group = points[number * len(points) // bins : (number + 1) * len(points) // bins]
        ends = {min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def smooth(points: Sequence[Point]) -> tuple[list[Point], int]:
    """(The centred moving mean, over how many points it goes): about a thirtieth of the line."""
    window = max(1, len(points) // 30) | 1
    if window < 3:
        return list(points), 1
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    half = window // 2
    mean: list[Point] = []
    for index, (x, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)  # shrinks at the ends, so that neither end is bent
        low, high = index - reach, index + reach + 1
        mean.append((x, (sums[high] - sums[low]) / (high - low)))
    return mean, window


def draw(chart: Chart) -> Markup:
    """The SVG. Lines without points are left out; a chart without any gives an empty string."""
    lines = [line for line in chart.lines if line.points]
    if not lines:
        return Markup("")
    frame = _Frame.around(chart, lines)
    name = escape(chart.id)
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">').format(
            WIDTH, HEIGHT, name, name
        ),
        Markup('<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>').format(
            name, chart.title, name, describe(chart)
        ),
        frame.axes(chart.unit),
    ]
    parts += [frame.mark(number, *mark) for number, mark in enumerate(chart.marks)]
    parts += [part for line in lines for part in frame.line(line)]
    return Markup("").join([*parts, Markup("</svg>")])


def describe(chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    said = []
    for line in chart.lines:
        if line.points:
            (x0, first), (x1, last) = line.points[0], line.points[-1]
            low = min(line.points, key=lambda point: point[1])
            said.append(
                f"{line.name}: {compact(first)} at step {x0:,.0f}, {compact(last)} at step {x1:,.0f}, "
                f"lowest {compact(low[1])} at step {low[0]:,.0f}."
            )
    said += [f"{name}: {compact(value)}." for name, value in chart.marks]
    return " ".join(said)


@dataclass(frozen=True, slots=True)
class _Frame:
    """From values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool

    @classmethod
    def around(cls, chart: Chart, lines: Sequence[Line]) -> _Frame:
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points] + [value for _, value in chart.marks]
        low, high = min(ys), max(ys)
        log = chart.log and low > 0 and high / low > LOG_RATIO
        if log:
            return cls(_widened(min(xs), max(xs)), (low / 1.15, high * 1.15), True)
        low = min(0.0, low) if chart.from_zero else low
        pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(_widened(min(xs), max(xs)), (low if chart.from_zero else low - pad, high + pad), False)

    def px(self, x: float) -> str:
        low, high = self.x
        return f"{LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT):.1f}"

    def py(self, y: float) -> str:
        scale: Callable[[float], float] = math.log10 if self.log else float
        low, high = scale(self.y[0]), scale(self.y[1])
        return f"{HEIGHT - BOTTOM - (scale(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM):.1f}"

    def axes(self, unit: str) -> Markup:
        base, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        parts = []
        ticks = log_ticks(*self.y) if self.log else linear_ticks(*self.y)
        for tick, label in zip(ticks, tick_labels(ticks), strict=True):
            parts += [_across("grid", self.py(tick)), _text("tick end", LEFT - 8, self.py(tick), label, dy=4)]
        steps = [tick for tick in linear_ticks(*self.x, wanted=6) if tick == int(tick)]
        for tick, label in zip(steps, tick_labels(steps), strict=True):
            parts.append(_text("tick", self.px(tick), base + 17, label))
        parts += [_across("axis", base), _text("label", middle, HEIGHT - 6, "step")]
        turned = Markup('<text class="label" transform="translate(12 {}) rotate(-90)">{}</text>')
        parts.append(turned.format((TOP + base) / 2, f"{unit} (log scale)" if self.log else unit))
        return Markup("").join(parts)

    def mark(self, number: int, name: str, value: float) -> Markup:
        """Labels stand side by side, so that two marks of nearly one value can both be read."""
        y = self.py(value)
        return _across("mark", y) + _text("tick end", WIDTH - RIGHT - 90 * number, y, f"{name} {compact(value)}", dy=-4)

    def line(self, line: Line) -> list[Markup]:
        mean, window = smooth(line.points) if line.raw else (line.points, 1)
        parts = []
        if window > 1:
            parts.append(self._path(thin(line.points), f"line raw {line.style}"))
        parts.append(self._path(thin(mean), f"line {line.style}"))
        if line.dots or len(line.points) == 1:
            circle = Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>')
            parts += [circle.format(line.style, self.px(x), self.py(y)) for x, y in thin(line.points, 60)]
        return parts

    def _path(self, points: Sequence[Point], style: str) -> Markup:
        steps = " ".join(f"{self.px(x)},{self.py(y)}" for x, y in points)
        return Markup('<polyline class="{}" points="{}"/>').format(style, steps)


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _across(style: str, y: object) -> Markup:
    line = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    return line.format(style, LEFT, WIDTH - RIGHT, y, y)


def _text(style: str, x: object, y: object, text: str, dy: int = 0) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" dy="{}">{}</text>').format(style, x, y, dy, text)
