"""Checks that the settings of several families share. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

__all__ = ["LayerNorm", "RmsNorm", "above_zero", "heads_fit", "norm_word", "sizes"]


class RmsNorm(Enum):
    """The norm of a family that has RMSNorm."""

    rmsnorm = "rmsnorm"
    none = "none"


class LayerNorm(Enum):
    """The norm of a family that has LayerNorm."""

    layernorm = "layernorm"
    none = "none"


def norm_word(norm: Enum) -> str:
    """What the settings provide: ``norm`` or ``no_norm``."""
    return "no_norm" if norm.value == "none" else "norm"


def sizes(config: Any, *names: str) -> Iterator[str]:
    """A problem for each of these fields that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            yield f"{name} is {getattr(config, name)}; it must be at least 1"


def above_zero(config: Any, *names: str) -> Iterator[str]:
    """A problem for each of these fields that is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            yield f"{name} is {getattr(config, name)}; it must be above 0"


def heads_fit(config: Any, *, even: bool, wrong: Iterable[str] = ()) -> Iterator[str]:
    """Problems of ``hidden``, ``heads``, ``kv_heads`` and ``head_dim`` beside one another; none where a size is
    ``wrong`` already. ``even``: rotary positions turn the pairs of a head."""
    if list(wrong):
        return
    own: int | None = getattr(config, "head_dim", None)
    if own is None and config.hidden % config.heads:
        yield f"hidden ({config.hidden}) is not a multiple of heads ({config.heads})"
    elif even and (width := own or config.hidden // config.heads) % 2:
        name = f"head_dim is {width}" if own else f"a head is {width} wide"
        yield f"{name}; rotary positions turn pairs, so it must be even"
    kv_heads = getattr(config, "kv_heads", config.heads)
    if config.heads % kv_heads:
        yield f"heads ({config.heads}) is not a multiple of kv_heads ({kv_heads})"
