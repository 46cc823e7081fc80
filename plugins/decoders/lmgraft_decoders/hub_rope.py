"""Rotary positions in a transformers ``config.json``, in the words of its versions 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft_decoders.config_rope import Stretch, StretchKind
from lmgraft_decoders.hub import Reader

__all__ = ["read", "refuse_scaling", "write"]


def write(theta: float, stretch: Stretch) -> dict[str, Any]:
    """``rope_parameters`` for version 5; ``rope_theta``, and ``rope_scaling`` where there is one, for version 4."""
    scaling: dict[str, Any] = {"rope_type": "default"}
    if stretch.kind is not StretchKind.none:
        scaling = {"factor": stretch.factor, "rope_type": stretch.kind.value}
    if stretch.kind is StretchKind.llama3:
        scaling["high_freq_factor"] = stretch.high_freq_factor
        scaling["low_freq_factor"] = stretch.low_freq_factor
        scaling["original_max_position_embeddings"] = stretch.original_context
    found = {"rope_parameters": {**scaling, "rope_theta": theta}, "rope_theta": theta}
    return found if stretch.kind is StretchKind.none else {**found, "rope_scaling": scaling}


def read(reader: Reader, default: float, context: int) -> tuple[float, Stretch]:
    """The base of the wavelengths, and how they are stretched."""
    name, rope = _object(reader)
    theta = reader.number("rope_theta", reader.number("rope_theta", default), rope)
    kind = rope.get("rope_type", rope.get("type"))
    for place in (reader.config, rope):
        if (part := place.get("partial_rotary_factor")) is not None and part != 1.0:
            reader.lacking("partial_rotary_factor", part)
    if any(isinstance(value, Mapping) for value in rope.values()):
        reader.lacking(name, "rotary positions that differ from layer to layer")
    elif kind not in (None, "default", "linear", "llama3"):
        reader.lacking(name, kind)
    elif kind in ("linear", "llama3"):
        return theta, _stretch(reader, StretchKind(kind), name, rope, context)
    return theta, Stretch()


def refuse_scaling(reader: Reader, default: float) -> float:
    """The base of the wavelengths of a family whose settings have no stretch."""
    before = len(reader.problems)
    theta, stretch = read(reader, default, 1)
    if stretch.kind is not StretchKind.none and len(reader.problems) == before:
        reader.lacking("rope_scaling", stretch.kind.value)
    return theta


def _object(reader: Reader) -> tuple[str, Mapping[str, Any]]:
    """Version 5 takes ``rope_scaling`` where both are there, and so does this."""
    name, rope = reader.given("rope_scaling", "rope_parameters")
    if rope is None:
        return name, {}
    if not isinstance(rope, Mapping):
        reader.problem(f"config.json sets {name} to {rope!r}", "it is an object with a rope_type")
        return name, {}
    return name, rope


def _stretch(reader: Reader, kind: StretchKind, name: str, rope: Mapping[str, Any], context: int) -> Stretch:
    if rope.get("factor") is None:
        reader.problem(f"config.json gives no factor in {name}", f"rotary positions of {kind.value} have one")
    factor = reader.number("factor", 1.0, rope)
    if kind is StretchKind.linear:
        return Stretch(kind=kind, factor=factor)
    usual = Stretch()
    original = reader.number("original_max_position_embeddings", context, rope)
    return Stretch(
        kind=kind,
        factor=factor,
        low_freq_factor=reader.number("low_freq_factor", usual.low_freq_factor, rope),
        high_freq_factor=reader.number("high_freq_factor", usual.high_freq_factor, rope),
        original_context=int(original),
    )
