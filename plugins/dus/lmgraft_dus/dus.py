"""Depth up-scaling (Kim et al. 2023, "SOLAR 10.7B", arXiv:2312.15166, section 2).

Of two copies of a model with n layers the first loses its last m, the second its first m; one stands on the other.
The result has s = 2 (n - m) layers: 32 with m = 8 give 48. Everything outside the layers is the original's. It is
mergekit's ``passthrough`` of the slices [0, n - m] and [m, n], bit for bit.

Works on names: layers are the tensors whose name holds one number between dots (``model.layers.7.mlp.up_proj.weight``,
``transformer.h.7.attn.c_attn.weight``), so every decoder in a Hugging Face folder is understood. The result needs
training: right after the merge its loss is higher than the original's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, streaming
from lmgraft.errors import Problem, UserError

from lmgraft_dus.plugin import DUSConfig, wrong

__all__ = ["DUS", "plan", "upscaled_config"]

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")

_LAYER = re.compile(r"^((?:.*\.)?(?:layers|h|blocks))\.(\d+)\.(.+)$")


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

        :raises UserError: not exactly one model, m does not fit its layers, or it has no layers that are known by name.
        """
        if len(models) != 1:
            cause = f"it is given {len(models)}: depth up-scaling stacks one model on itself"
            raise UserError(Problem("dus takes one model", cause, "name one model"))
        (model,) = models
        config = checkpoint.read_config(model)
        tensors = streaming.pieces(model)
        layers = _depth(model, config, tensors)
        drop = self._drop if self._drop is not None else layers // 4
        problem = wrong(drop, layers, allow_odd=self._allow_odd)
        if problem is not None:
            raise UserError(Problem(f"dus with drop={drop} on the {layers} layers of {model.name}", *problem))
        if config.get("tie_word_embeddings"):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            tensors = {name: piece for name, piece in tensors.items() if name != "lm_head.weight"}
        generation = model / checkpoint.GENERATION_CONFIG
        streaming.write(
            out,
            plan(tensors, layers, drop),
            upscaled_config(config, layers, drop),
            _object(generation) if generation.is_file() else None,
            progress=progress,
        )


def plan(tensors: Mapping[str, Any], layers: int, drop: int) -> dict[str, Any]:
    """New name -> what ``tensors`` holds for it: layer i of the result is layer i of the original below n - m, and
    i - (n - 2 m) from there on."""
    kept = layers - drop
    found = {}
    for name, tensor in tensors.items():
        match = _LAYER.match(name)
        if match is None:
            found[name] = tensor
            continue
        head, number, tail = match[1], int(match[2]), match[3]
        if number < kept:
            found[f"{head}.{number}.{tail}"] = tensor
        if number >= drop:
            found[f"{head}.{number - drop + kept}.{tail}"] = tensor
    return found


def upscaled_config(config: Mapping[str, Any], layers: int, drop: int) -> dict[str, Any]:
    """``config.json`` of the result: its depth, and whatever is listed a layer (``layer_types``) stacked alike."""
    kept = layers - drop
    found = {}
    for key, value in config.items():
        if key in DEPTH_KEYS:
            found[key] = 2 * kept
        elif isinstance(value, list) and len(value) == layers:
            found[key] = value[:kept] + value[drop:]
        else:
            found[key] = value
    return found


def _depth(model: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> int:
    numbers = {int(match[2]) for name in tensors if (match := _LAYER.match(name))}
    told = next((config[key] for key in DEPTH_KEYS if isinstance(config.get(key), int)), None)
    if not numbers or numbers != set(range(max(numbers) + 1)):
        cause = "no tensor's name holds a layer's number" if not numbers else "the numbers of its layers have gaps"
        raise UserError(Problem(f"{model} is no stack of layers", cause, "give a decoder in Hugging Face form"))
    if told is None or told != len(numbers):
        cause = f"its tensors are of {len(numbers)} layers"
        raise UserError(Problem(f"{model / checkpoint.CONFIG} tells of {told} layers", cause, "give the model again"))
    return len(numbers)


def _object(path: Path) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
