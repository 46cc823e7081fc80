"""Depth up-scaling (Kim et al. 2023, "SOLAR 10.7B", arXiv:2312.15166, section 2).

Of two copies of a model with n layers the first loses its last m, the second its first m; one stands on the other.
The result has s = 2 (n - m) layers: 32 with m = 8 give 48. Everything outside the layers is the original's. It is
mergekit's ``passthrough`` of the slices [0, n - m] and [m, n], bit for bit.

Works on names (:mod:`lmgraft.artifacts.layers`), so every decoder in a Hugging Face folder is understood. The result
needs training: right after the merge its loss is higher than the original's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, layers, streaming
from lmgraft.errors import Problem, UserError

from lmgraft_dus.plugin import DUSConfig, quarter, wrong

__all__ = ["DUS", "order"]


class DUS:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: DUSConfig) -> None:
        self._drop = config.drop
        self._allow_odd = config.allow_odd

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Copies the layers' bytes; see the module's docstring.

        :raises UserError: not exactly one model, m does not fit its layers, it has no layers that are known by name,
            or its settings give a layer its kind by its number and the kinds would not match.
        """
        if len(models) != 1:
            cause = f"it is given {len(models)}: depth up-scaling stacks one model on itself"
            raise UserError(Problem("dus takes one model", cause, "name one model"))
        (model,) = models
        config = checkpoint.read_config(model)
        generation = checkpoint.read_generation_config(model)
        tensors = streaming.pieces(model)
        stack = layers.stack(model, config, tensors)
        drop = quarter(stack.layers) if self._drop is None else self._drop
        problem = wrong(drop, stack.layers, allow_odd=self._allow_odd)
        if problem is not None:
            raise UserError(Problem(f"dus with drop={drop} on the {stack.layers} layers of {model}", *problem))
        _kinds_match(model, config, stack.layers, drop)
        if config.get("tie_word_embeddings"):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            tensors = {name: piece for name, piece in tensors.items() if name != "lm_head.weight"}
        taken = order(stack.layers, drop)
        stacked, told = layers.restacked(tensors, stack, taken), layers.restacked_config(config, stack.layers, taken)
        streaming.write(out, stacked, told, generation, progress=progress)


def order(count: int, drop: int) -> list[int]:
    """Layer j of the result is layer ``order[j]`` of the original's ``count``."""
    return [*range(count - drop), *range(drop, count)]


def _kinds_match(model: Path, config: Mapping[str, Any], count: int, drop: int) -> None:
    found = layers.unstackable(config, count, order(count, drop))
    if found is None:
        return
    setting, new, old = found
    fits = [m for m in range(2, (count + 1) // 2, 2) if layers.unstackable(config, count, order(count, m)) is None]
    fact = f"{model / checkpoint.CONFIG}: {setting} gives layers their kind by their number"
    cause = f"with drop={drop} layer {new} of the result is the original's layer {old}, which is of another kind"
    raise UserError(Problem(fact, cause, f"drop={fits[-1]}" if fits else "up-scale a model of layers of one kind"))
