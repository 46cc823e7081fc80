"""Between two models along the arc (Shoemake 1985, "Animating rotation with quaternion curves", section 3.3), each
tensor a vector.

With a and b the tensors, ``omega`` the angle between them and t the place: ``sin((1 - t) omega) / sin(omega) a + sin(t
omega) / sin(omega) b``. Shoemake's vectors have length 1; here, as in mergekit's ``slerp``, the angle is that of the
directions and the tensors keep their lengths. Where they are nearly parallel (``threshold``) the result is ``(1 - t) a
+ t b``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lmgraft.artifacts import layers

from lmgraft_merges import models as folders
from lmgraft_merges.plugin import SlerpConfig

if TYPE_CHECKING:
    from lmgraft.artifacts.blocks import Blocks
    from lmgraft.artifacts.streaming import Rule
    from numpy.typing import NDArray

__all__ = ["Slerp", "arc", "place"]


class Slerp:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: SlerpConfig) -> None:
        self._config = config

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Writes what lies between the two models, with the first one's settings.

        :raises UserError: not two models, or they differ.
        """
        config = self._config
        read = folders.read("slerp", models, config.takes_models)
        folders.alike(read, config.dtype)
        stack = layers.stack(models[0], read.configs[0], read.tensors[0]) if config.gradients else None

        def rule(name: str) -> Rule:
            return arc(place(name, stack, config), eps=config.eps, threshold=config.threshold)

        read.write(out, read.plan(config.dtype, rule), config.dtype, progress)


def place(name: str, stack: layers.Stack | None, config: SlerpConfig) -> float:
    """``t`` of a tensor."""
    values = next((values for pattern, values in config.gradients.items() if re.search(pattern, name)), None)
    if values is None or stack is None:
        return config.t
    found = stack.place(name)
    if found is None:
        return values[0]
    along = found[0] / (stack.layers - 1) if stack.layers > 1 else 1.0
    return float(np.interp(along * (len(values) - 1), range(len(values)), values))


def arc(t: float, *, eps: float, threshold: float) -> Rule:
    """The rule of a tensor."""

    def rule(blocks: Blocks) -> Callable[[int, list[NDArray[Any]]], NDArray[Any]]:
        first, second = (blocks.kind.type(factor) for factor in factors(blocks, t, eps, threshold))

        def block(number: int, sources: list[NDArray[Any]]) -> NDArray[Any]:
            one, two = sources
            one *= first
            two *= second
            one += two
            return one

        return block

    return rule


def factors(blocks: Blocks, t: float, eps: float, threshold: float) -> tuple[float, float]:
    """What the two tensors are multiplied by."""
    sums = blocks.each(lambda number, sources: _products(*sources))
    one, two, both = (math.fsum(column) for column in zip(*sums, strict=True)) if sums else (0.0, 0.0, 0.0)
    lengths = [length if length > eps else 1.0 for length in (math.sqrt(one), math.sqrt(two))]
    cosine = max(-1.0, min(1.0, both / (lengths[0] * lengths[1])))
    if not abs(cosine) <= threshold:
        return 1 - t, t
    omega = math.acos(cosine)
    return math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega)


def _products(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float, float]:
    """Sums of squares and of products; numpy adds in pairs, so that float32 is enough within a block."""
    both = float(np.add.reduce(one * two))
    one *= one
    two *= two
    return float(np.add.reduce(one)), float(np.add.reduce(two)), both
