"""Block expansion (Wu et al. 2024, "LLaMA Pro: Progressive LLaMA with Block Expansion", arXiv:2401.02415, section 3.2).

A model's layers are taken in groups; after each group come copies of its last layers, whose projections into the
residual stream are zero. A new layer then adds nothing: right after the expansion the model answers as before. The
paper zeroes the weights of attention's and the MLP's outputs; where a family has biases there, they are zero too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, layers, streaming
from lmgraft.artifacts.streaming import Computed, Piece
from lmgraft.errors import Problem, UserError

from lmgraft_block_expansion.outputs import Unknown, outputs
from lmgraft_block_expansion.plugin import EVERY, BlockExpansionConfig

__all__ = ["BlockExpansion", "order"]

#: What makes a family normalise what stands in the residual stream itself, under which no layer is the identity.
_POST_NORM: Mapping[str, object] = {
    "apply_residual_connection_post_layernorm": True,
    "do_layer_norm_before": False,
    "model_type": "openai-gpt",
}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


class BlockExpansion:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: BlockExpansionConfig) -> None:
        self._config = config

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Writes the expanded model; ``lmgraft_new_layers`` of its config.json lists the new layers' numbers.

        :raises UserError: not one model, its layers do not make such groups, it is of a family whose outputs are not
            known, or its settings give a layer its kind by its number and the kinds would not match.
        """
        if len(models) != 1:
            cause = f"it is given {len(models)}"
            raise UserError(Problem("block_expansion takes one model", cause, "name one model"))
        (model,) = models
        config = checkpoint.read_config(model)
        generation = checkpoint.read_generation_config(model)
        tensors = streaming.pieces(model)
        stack = layers.stack(model, config, tensors)
        if config.get("tie_word_embeddings"):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            tensors = {name: piece for name, piece in tensors.items() if name != "lm_head.weight"}
        _adds_up(model, config)
        sources, new = order(stack.layers, self._size(model, stack.layers), self._config.copies)
        _kinds_match(model, config, stack.layers, sources)
        plan = self._plan(model, tensors, stack, sources, new)
        told = layers.restacked_config({**config, layers.NEW_LAYERS: []}, stack.layers, sources)
        streaming.write(out, plan, {**told, layers.NEW_LAYERS: new}, generation, progress=progress)

    def _size(self, model: Path, count: int) -> int:
        """Layers of a group."""
        groups, every = self._config.groups, self._config.every or EVERY
        key, value = ("groups", groups) if groups is not None else ("every", every)
        if value > count or count % value:
            fits = [n for n in range(1, count + 1) if count % n == 0]
            nearest = min(fits, key=lambda n: (abs(n - value), n))
            cause = f"{count} layers do not divide into groups of one size; {', '.join(map(str, fits))} would do"
            raise UserError(Problem(f"block_expansion with {key}={value} on {model}", cause, f"{key}={nearest}"))
        size = count // groups if groups is not None else every
        if self._config.copies > size:
            fact = f"block_expansion with copies={self._config.copies} on {model}"
            raise UserError(Problem(fact, f"a group has {size} layers", f"copies={size}"))
        return size

    def _plan(
        self, model: Path, tensors: Mapping[str, Piece], stack: layers.Stack, sources: Sequence[int], new: Sequence[int]
    ) -> dict[str, Piece | Computed]:
        plan: dict[str, Piece | Computed] = dict(layers.restacked(tensors, stack, sources))
        for number in new:
            rests = {}
            for name, piece in plan.items():
                place = stack.place(name)
                if place is not None and place[0] == number:
                    rests[place[1]] = piece
            for rest in self._outputs(model, stack, sources[number], rests):
                plan[stack.name(number, rest)] = streaming.zeros(rests[rest].dtype, rests[rest].shape)
        return plan

    def _outputs(self, model: Path, stack: layers.Stack, old: int, tensors: Mapping[str, Piece | Computed]) -> set[str]:
        remedy = "name them all: outputs=[self_attn.o_proj,mlp.down_proj]"
        try:
            found = outputs({rest: piece.shape for rest, piece in tensors.items()}, self._config.outputs)
        except Unknown as error:
            fact = f"{model}: which of layer {old}'s tensors write into the residual stream is not known"
            raise UserError(Problem(fact, str(error), remedy)) from error
        for rest in found:
            if tensors[rest].dtype not in _FLOATS:
                cause = f"it is {tensors[rest].dtype}, in which 0 need not be 0"
                fact = f"{model}: {stack.name(old, rest)} cannot be made zero"
                raise UserError(Problem(fact, cause, "take the model as it was before it was quantised"))
        return found


def order(count: int, size: int, copies: int) -> tuple[list[int], list[int]]:
    """Layer j of the result is a copy of layer ``[0][j]`` of the original; ``[1]`` are the numbers of the new ones."""
    sources: list[int] = []
    new: list[int] = []
    for end in range(size, count + 1, size):
        sources += range(end - size, end)
        new += range(len(sources), len(sources) + copies)
        sources += range(end - copies, end)
    return sources, new


def _adds_up(model: Path, config: Mapping[str, Any]) -> None:
    """Is the residual stream only added to?"""
    for key, value in _POST_NORM.items():
        if config.get(key) == value:
            fact = f"{model / checkpoint.CONFIG}: {key} is {str(value).lower()}"
            cause = "what its layers are added to is normalised in between, so a layer that adds nothing changes it"
            raise UserError(Problem(fact, cause, "take a model whose norms come before attention and MLP"))
    if config.get("quantization_config") is not None:
        cause = "packed numbers cannot be made zero"
        fact = f"{model / checkpoint.CONFIG} tells of a quantised model"
        raise UserError(Problem(fact, cause, "take the model as it was before it was quantised"))


def _kinds_match(model: Path, config: Mapping[str, Any], count: int, sources: Sequence[int]) -> None:
    found = layers.unstackable(config, count, sources)
    if found is not None:
        setting, new, old = found
        fact = f"{model / checkpoint.CONFIG}: {setting} gives layers their kind by their number"
        cause = f"layer {new} of the result is the original's layer {old}, which is of another kind"
        raise UserError(Problem(fact, cause, "expand a model of layers of one kind"))
