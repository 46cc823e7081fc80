"""Values of a ``config.json``, looked at before they are computed with: files come from strangers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["Config", "number", "real", "rope"]

Config = Mapping[str, Any]

#: What a key of GGUF holds.
_LARGEST, _LARGEST_REAL = 2**31 - 1, 3.4e38
_REMEDY = "take config.json from where the weights came from"


def number(config: Config, *names: str, default: int | None = None) -> int:
    """A size, by the first of the names that has a value.

    :raises UserError: none has and there is no ``default``, or it is no whole number from 1 on.
    """
    name = next((name for name in names if config.get(name) is not None), None)
    if name is None:
        if default is not None:
            return default
        raise UserError(Problem(f"config.json gives no {names[0]}", "llama.cpp is told every size", _REMEDY))
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise UserError(Problem(f"config.json sets {name} to {value!r}", "it is a whole number from 1 on", _REMEDY))
    return value


def real(config: Config, name: str, default: float | None) -> float:
    """A number above 0.

    :raises UserError: it is none, or it lacks and there is no ``default``.
    """
    value = config.get(name)
    if value is None:
        if default is None:
            raise UserError(
                Problem(f"config.json gives no {name}", "rotary positions that are stretched need it", _REMEDY)
            )
        return default
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not 0 < value <= _LARGEST_REAL or not math.isfinite(value):
        raise UserError(Problem(f"config.json sets {name} to {value!r}", "it is a number above 0", _REMEDY))
    return float(value)


def rope(config: Config, theta: float = 10_000.0) -> dict[str, Any]:
    """The rotary settings with ``rope_type`` and ``rope_theta``, which stands outside of them in files of transformers
    4, as all published ones of Llama 3.1 are.

    :raises UserError: they are no object.
    """
    name = "rope_scaling" if config.get("rope_scaling") is not None else "rope_parameters"
    told = config.get(name)
    if told is None:
        told = {}
    if not isinstance(told, Mapping):
        raise UserError(Problem(f"config.json sets {name} to {told!r}", "it is an object with a rope_type", _REMEDY))
    kind = told.get("rope_type") or told.get("type") or "default"
    base = real(told, "rope_theta", real(config, "rope_theta", theta))
    return {**told, "rope_type": kind, "rope_theta": base}
