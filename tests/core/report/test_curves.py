"""Curves, bars and numbers: what is drawn is what was measured."""

from __future__ import annotations

import math
import random
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.report import bars
from lmgraft.report.curves import Chart, Line, draw, smooth, thin
from lmgraft.report.numbers import compact, linear_ticks, log_ticks, moment, size, tick_labels


def chart(*lines: Line, **more: object) -> Chart:
    return Chart("c", "Loss <of> a model", "nats", lines, **more)  # type: ignore[arg-type]


def elements(drawing: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing).iter(tag))


def test_a_chart_is_well_formed_and_says_what_it_shows() -> None:
    points = [(float(step), 5.0 / step) for step in range(1, 200)]
    drawing = draw(chart(Line("training", points), marks=[("gzip", 2.5)]))
    assert [title.text for title in elements(drawing, "title")] == ["Loss <of> a model"]
    (description,) = elements(drawing, "desc")
    assert description.text == "training: 5 at step 1, 0.02513 at step 199, lowest 0.02513 at step 199. gzip: 2.5."
    root = ElementTree.fromstring(drawing)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "c-title c-desc"
    assert "gzip 2.5" in [text.text for text in elements(drawing, "text")]


def test_points_land_where_the_axes_say() -> None:
    drawing = draw(chart(Line("a", [(0.0, 0.0), (10.0, 5.0), (20.0, 10.0)], raw=False), from_zero=True))
    (line,) = elements(drawing, "polyline")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in (line.get("points") or "").split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    ticks = {text.text: text for text in elements(drawing, "text") if text.get("class") == "tick end"}
    assert float(ticks["0"].get("y") or 0) == pytest.approx(y0, abs=0.2)
    assert float(ticks["10"].get("y") or 0) == pytest.approx(y2, abs=0.2)


def test_a_noisy_line_is_drawn_raw_and_smoothed_and_few_points_only_once() -> None:
    noisy = [(float(step), random.Random(step).random()) for step in range(300)]
    assert len(elements(draw(chart(Line("a", noisy))), "polyline")) == 2
    assert len(elements(draw(chart(Line("a", noisy[:10]))), "polyline")) == 1
    assert len(elements(draw(chart(Line("a", noisy[:1]))), "circle")) == 1


def test_a_chart_of_a_long_run_stays_small_and_keeps_its_spike() -> None:
    points = [(float(step), 1.0) for step in range(100_000)]
    points[54_321] = (54_321.0, 99.0)
    assert len(thin(points)) <= 400
    assert (54_321.0, 99.0) in thin(points)
    assert len(draw(chart(Line("a", points)))) < 40_000


def test_logarithms_only_where_values_span_orders_of_magnitude() -> None:
    wide = [(float(step), 10.0 ** (step % 4)) for step in range(8)]
    assert "(log scale)" in draw(chart(Line("a", wide), log=True))
    assert "(log scale)" not in draw(chart(Line("a", wide)))
    assert "(log scale)" not in draw(chart(Line("a", [(0.0, 1.0), (1.0, 2.0)]), log=True))
    assert "(log scale)" not in draw(chart(Line("a", [(0.0, 0.0), (1.0, 2000.0)]), log=True))


def test_nothing_measured_draws_nothing() -> None:
    assert draw(chart(Line("a", []))) == ""


@pytest.mark.parametrize("value", [0.0, -1.5, 1e-9, 3e8])
def test_a_constant_line_has_an_axis_too(value: float) -> None:
    assert "nan" not in draw(chart(Line("a", [(5.0, value), (6.0, value)]), from_zero=value >= 0)).lower()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_smoothing_keeps_length_order_and_range(values: list[float]) -> None:
    points = [(float(index), value) for index, value in enumerate(values)]
    mean, window = smooth(points)
    assert window % 2 == 1
    assert [x for x, _ in mean] == [x for x, _ in points]
    slack = 1e-6 * max(1.0, *(abs(value) for value in values))
    assert all(min(values) - slack <= y <= max(values) + slack for _, y in mean)


def test_smoothing_does_not_bend_a_straight_line() -> None:
    points = [(float(index), 2.0 * index) for index in range(120)]
    mean, window = smooth(points)
    assert window > 1
    assert [y for _, y in mean] == pytest.approx([y for _, y in points])


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_linear_ticks_are_few_ascending_and_inside(low: float, span: float) -> None:
    span = max(span, 1e-6 * abs(low))  # a float has no room for ticks in less
    high = low + span
    ticks = linear_ticks(low, high)
    assert len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert all(low - 0.01 * span <= tick <= high + 0.01 * span for tick in ticks)


def test_ticks_and_numbers_read_well() -> None:
    assert linear_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert log_ticks(0.9, 120) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks(1e-3, 1e3) == [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000]
    assert log_ticks(2.1, 4.9) == [2.1, 4.9]
    assert tick_labels([0, 5000, 10000]) == ["0", "5k", "10k"]
    assert tick_labels([0, 1000, 2000]) == ["0", "1,000", "2,000"]
    assert [compact(value) for value in (3e-4, 2.4149, 1250, 48_000, 1.2e6, math.nan, 0)] == [
        "3e-4", "2.415", "1,250", "48k", "1.2M", "not finite", "0",
    ]  # fmt: skip
    assert (size(8_113_575), size(12)) == ("8.11 MB", "12 bytes")
    assert moment("2025-11-20T13:01:07+01:00") == "2025-11-20 12:01 UTC"
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert moment("yesterday") == "yesterday"
    assert moment(None) == ""


def test_bars_are_in_proportion() -> None:
    drawing = bars.draw(
        [bars.Bar("model & co", 1.5), bars.Bar("gzip", 3.0, True), bars.Bar("broken", math.inf)],
        id="b",
        title="Bits per byte",
        unit="bits/byte",
    )
    widths = [float(rect.get("width") or 0) for rect in elements(drawing, "rect")]
    assert widths[0] == pytest.approx(widths[1] / 2, abs=0.1)
    assert widths[2] == 1.0
    assert [rect.get("class") for rect in elements(drawing, "rect")][:2] == ["own", "reference"]
    assert re.search(r"model &amp; co: 1\.500 bits/byte; gzip: 3\.000", drawing)
