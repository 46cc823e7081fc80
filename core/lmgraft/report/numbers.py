"""Numbers as people read them: ticks of an axis, counts, sizes, dates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["compact", "count", "linear_ticks", "log_ticks", "moment", "size", "tick_labels"]

#: Steps between ticks, as fractions of a power of ten.
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


def compact(value: float) -> str:
    """Three or four significant digits: ``0.0315``, ``3e-4``, ``2.41``, ``1,250``, ``48k``, ``1.2M``."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-2:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of one axis, in one unit: ``0``, ``5k``, ``10k``."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 10 * limit:
            return [f"{tick / limit:g}{unit}" if tick else "0" for tick in ticks]
    return [compact(tick) for tick in ticks]


def count(value: Any) -> str:
    """A whole number with its thousands marked."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def size(value: float) -> str:
    """Bytes in decimal units, as disks are sold: ``8.1 MB``."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} bytes"


def moment(value: Any) -> str:
    """``2025-01-31 12:05 UTC`` from an ISO date or seconds since 1970; anything else as it is."""
    try:
        if isinstance(value, int | float):
            when = datetime.fromtimestamp(value, UTC)
        else:
            when = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return str(value or "")
    if when.tzinfo is None:
        return when.strftime("%Y-%m-%d %H:%M")
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About ``wanted`` round numbers in [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in NICE if nice * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def log_ticks(low: float, high: float, wanted: int = 8) -> list[float]:
    """Powers of ten in [low, high]; with twos and fives between, where that makes no more than ``wanted``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(inside) <= wanted:
            break
    return inside[:: math.ceil(len(inside) / wanted)] if inside else [low, high]
