"""Depth up-scaling (Kim et al. 2023, "SOLAR 10.7B", arXiv:2312.15166, section 2).

Of two copies of a model with n layers the first loses its last m, the second its first m; one stands on the other.
The result has s = 2 (n - m) layers: 32 with m = 8 give 48. Everything outside the layers is the original's. It is
mergekit's ``passthrough`` of the slices [0, n - m] and [m, n], bit for bit.

Works on names: a stack of layers is the tensors whose names differ in one number, 0 to n - 1
(``model.layers.7.mlp.up_proj.weight``, ``transformer.h.7.attn.c_attn.weight``), so every decoder in a Hugging Face
folder is understood. The result needs training: right after the merge its loss is higher than the original's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, streaming
from lmgraft.errors import Problem, UserError

from lmgraft_dus.depth import DEPTH_KEYS, order, unstackable, upscaled_config
from lmgraft_dus.plugin import DUSConfig, quarter, wrong

__all__ = ["DUS", "plan", "stacks"]

#: The first number between dots: experts within a layer are numbered too.
_NUMBERED = re.compile(r"^(.+?)\.(\d+)\.(.+)$")


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
        layers = _depth(model, config, tensors)
        drop = quarter(layers) if self._drop is None else self._drop
        problem = wrong(drop, layers, allow_odd=self._allow_odd)
        if problem is not None:
            raise UserError(Problem(f"dus with drop={drop} on the {layers} layers of {model}", *problem))
        _kinds_match(model, config, layers, drop)
        if config.get("tie_word_embeddings"):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            tensors = {name: piece for name, piece in tensors.items() if name != "lm_head.weight"}
        stacked = plan(tensors, layers, drop)
        streaming.write(out, stacked, upscaled_config(config, layers, drop), generation, progress=progress)


def plan(tensors: Mapping[str, Any], layers: int, drop: int) -> dict[str, Any]:
    """New name -> what ``tensors`` holds for it."""
    (head,) = stacks(tensors, layers)
    numbers: dict[int, list[int]] = {}
    for new, old in enumerate(order(layers, drop)):
        numbers.setdefault(old, []).append(new)
    found = {}
    for name, tensor in tensors.items():
        match = _NUMBERED.match(name)
        if match is None or match[1] != head:
            found[name] = tensor
            continue
        for new in numbers.get(int(match[2]), ()):
            found[f"{head}.{new}.{match[3]}"] = tensor
    return found


def stacks(names: Mapping[str, Any], layers: int) -> list[str]:
    """What stands before the numbers, for each stack of so many layers: ``["model.layers"]``."""
    return [head for head, numbers in _numbers(names).items() if numbers == set(range(layers))]


def _numbers(names: Mapping[str, Any]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name in names:
        match = _NUMBERED.match(name)
        if match is not None:
            found.setdefault(match[1], set()).add(int(match[2]))
    return found


def _depth(model: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> int:
    """The number of layers, which config and tensors must agree on."""
    told = next((config[key] for key in DEPTH_KEYS if isinstance(config.get(key), int)), None)
    file, remedy = model / checkpoint.CONFIG, "give a decoder in Hugging Face form"
    if told is None:
        cause = f"it holds none of {', '.join(DEPTH_KEYS)}, and dus must write the new number there"
        raise UserError(Problem(f"{file} tells no number of layers", cause, remedy))
    found = stacks(tensors, told)
    if len(found) > 1:
        cause = f"{' and '.join(found)} have {told} layers each, and dus stacks one decoder"
        raise UserError(Problem(f"{model} has {len(found)} stacks of layers", cause, remedy))
    if not found:
        numbers = _numbers(tensors)
        cause = "no tensor's name holds a layer's number"
        if numbers:
            head, most = max(numbers.items(), key=lambda item: len(item[1]))
            cause = f"its tensors {head}.N are of {len(most)} layers, {min(most)} to {max(most)}"
        raise UserError(Problem(f"{file} tells of {told} layers", cause, remedy))
    return told


def _kinds_match(model: Path, config: Mapping[str, Any], layers: int, drop: int) -> None:
    found = unstackable(config, layers, drop)
    if found is None:
        return
    setting, new, old = found
    fits = [m for m in range(2, (layers + 1) // 2, 2) if unstackable(config, layers, m) is None]
    fact = f"{model / checkpoint.CONFIG}: {setting} gives layers their kind by their number"
    cause = f"with drop={drop} layer {new} of the result is the original's layer {old}, which is of another kind"
    raise UserError(Problem(fact, cause, f"drop={fits[-1]}" if fits else "up-scale a model of layers of one kind"))
