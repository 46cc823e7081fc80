"""The layers of a model folder: which tensors are theirs, and what ``config.json`` must say when they are put together
anew.

For merges that change a model's depth. Works on names: a stack of layers is the tensors whose names differ in one
number, 0 to n - 1 (``model.layers.7.mlp.up_proj.weight``, ``transformer.h.7.attn.c_attn.weight``), so every decoder in
a Hugging Face folder is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lmgraft.artifacts import checkpoint
from lmgraft.errors import Problem, UserError

__all__ = [
    "DEPTH_KEYS",
    "NEW_LAYERS",
    "Stack",
    "added",
    "joined_config",
    "restacked",
    "restacked_config",
    "stack",
    "stacks",
    "unjoinable",
    "unstackable",
]

#: The number of layers, in the words of the families.
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")

#: Not a key of transformers: the numbers of the layers that a merge added, which a train stage means by
#: ``trainable_layers: [added]``. Any merge may write it, and what passes a model on keeps it.
NEW_LAYERS = "lmgraft_new_layers"

#: Lists of numbers of layers.
_NUMBERS = ("mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "cross_attention_layers", NEW_LAYERS)
#: A letter a layer.
_LETTERS = ("hybrid_override_pattern",)
#: Every so many layers one is of another kind; and the list that counts where it is there.
_ATTENTION_PERIODS = ("attn_layer_period", "full_attention_interval", "sliding_window_pattern")
_PERIODS = ("decoder_sparse_step", "expert_layer_period", "interleave_moe_layer_step", "moe_layer_freq")
#: The first or the last so many are of another kind.
_FIRST = ("first_k_dense_replace",)
_LAST = ("num_kv_shared_layers",)
#: Where it is set, every layer is of a kind of its own (GPT-2 may divide its scores by the layer's number).
_EACH = ("scale_attn_by_inverse_layer_idx",)

#: The first number between dots: experts within a layer are numbered too.
_NUMBERED = re.compile(r"^(.+?)\.(0|[1-9][0-9]{0,8})\.(.+)$")

T = TypeVar("T")


class Stack(NamedTuple):
    """The one stack of layers of a decoder."""

    head: str
    """What stands before the numbers: ``model.layers``."""
    layers: int
    """How many there are."""

    def place(self, name: str) -> tuple[int, str] | None:
        """A tensor's layer and its name within it: (7, ``mlp.up_proj.weight``); None outside the stack."""
        match = _NUMBERED.match(name)
        return (int(match[2]), match[3]) if match is not None and match[1] == self.head else None

    def name(self, layer: int, rest: str) -> str:
        """The name of a tensor of a layer."""
        return f"{self.head}.{layer}.{rest}"


def stack(folder: Path, config: Mapping[str, Any], names: Iterable[str]) -> Stack:
    """The layers of a model folder, on which ``config`` and the names of its tensors must agree.

    :raises UserError: config.json tells no number of layers, or the tensors are not one stack of so many.
    """
    file, remedy = folder / checkpoint.CONFIG, "give a decoder in Hugging Face form"
    told = next((config[key] for key in DEPTH_KEYS if isinstance(config.get(key), int)), None)
    if told is None:
        cause = f"it holds none of {', '.join(DEPTH_KEYS)}, and the new number must be written there"
        raise UserError(Problem(f"{file} tells no number of layers", cause, remedy))
    names = list(names)
    found = stacks(names, told)
    if len(found) > 1:
        cause = f"{' and '.join(found)} have {told} layers each, and a decoder has one stack"
        raise UserError(Problem(f"{folder} has {len(found)} stacks of layers", cause, remedy))
    if not found:
        numbers = _numbers(names)
        cause = "no tensor's name holds a layer's number"
        if numbers:
            head, most = max(numbers.items(), key=lambda item: len(item[1]))
            cause = f"its tensors {head}.N are of {len(most)} layers, {min(most)} to {max(most)}"
        raise UserError(Problem(f"{file} tells of {told} layers", cause, remedy))
    return Stack(found[0], told)


def stacks(names: Iterable[str], layers: int) -> list[str]:
    """What stands before the numbers, for each stack of so many layers: ``["model.layers"]``."""
    # Different numbers from 0 on: as many as there are layers, and none above them. The number is a stranger's word.
    return [head for head, numbers in _numbers(names).items() if len(numbers) == layers and max(numbers) == layers - 1]


def added(config: Mapping[str, Any]) -> list[int]:
    """The numbers of the layers that a merge added, as ``config.json`` lists them; empty where it lists none, or no
    numbers."""
    told = config.get(NEW_LAYERS)
    numbers = told if isinstance(told, list) else []
    return sorted(set(numbers)) if all(type(number) is int and number >= 0 for number in numbers) else []


def restacked(tensors: Mapping[str, T], of: Stack, order: Sequence[int]) -> dict[str, T]:
    """New name -> what ``tensors`` holds for it, where layer j of the result is layer ``order[j]``."""
    numbers: dict[int, list[int]] = {}
    for new, old in enumerate(order):
        numbers.setdefault(old, []).append(new)
    found = {}
    for name, tensor in tensors.items():
        place = of.place(name)
        if place is None:
            found[name] = tensor
            continue
        for new in numbers.get(place[0], ()):
            found[of.name(new, place[1])] = tensor
    return found


def restacked_config(config: Mapping[str, Any], layers: int, order: Sequence[int]) -> dict[str, Any]:
    """``config.json`` of the result: its depth, and whatever is told layer by layer (``layer_types``) in the order of
    the layers."""
    return joined_config([config], [layers], [(0, old) for old in order])


def joined_config(
    configs: Sequence[Mapping[str, Any]], layers: Sequence[int], order: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """As :func:`restacked_config` for layers of several models: (number of the model, its layer) of each. What is not
    of layers is the first model's."""
    found: dict[str, Any] = {}
    for key, value in configs[0].items():
        everyone = [config.get(key) for config in configs]
        if key in DEPTH_KEYS and value == layers[0]:
            found[key] = len(order)
        elif key in _NUMBERS and isinstance(value, list):
            found[key] = [new for new, (model, old) in enumerate(order) if old in (everyone[model] or ())]
        elif key in _LETTERS and all(
            isinstance(one, str) and len(one) == n for one, n in zip(everyone, layers, strict=True)
        ):
            found[key] = "".join(configs[model][key][old] for model, old in order)
        elif all(_by_layer(key, one, n) for one, n in zip(everyone, layers, strict=True)):
            found[key] = [configs[model][key][old] for model, old in order]
        else:
            found[key] = value
    return found


def unstackable(config: Mapping[str, Any], layers: int, order: Sequence[int]) -> tuple[str, int, int] | None:
    """A setting by which a layer's number decides its kind, with a new number and the old one of which it is; None
    where every layer stays what it is."""
    return unjoinable([config], [layers], [(0, old) for old in order])


def unjoinable(
    configs: Sequence[Mapping[str, Any]], layers: Sequence[int], order: Sequence[tuple[int, int]]
) -> tuple[str, int, int] | None:
    """As :func:`unstackable` for layers of several models, beside the first one's config."""
    config = configs[0]
    listed = _by_layer("layer_types", config.get("layer_types"), layers[0])  # what is listed counts, not what recurs
    for key in (*_PERIODS, *(() if listed else _ATTENTION_PERIODS), *_FIRST, *_LAST, *_EACH):
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            for new, (model, old) in enumerate(order):
                before = configs[model].get(key)
                if before != value or _kind(key, value, new, len(order)) != _kind(key, value, old, layers[model]):
                    return f"{key}={str(value).lower()}", new, old
    return None


def _kind(key: str, value: int, number: int, layers: int) -> Any:
    if key in _EACH:
        return number
    if key in _FIRST:
        return number < value
    if key in _LAST:
        return number >= layers - value
    return number % value


def _by_layer(key: str, value: Any, layers: int) -> bool:
    """Is it a list with an entry for each layer? Ids of tokens may be as many by chance."""
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    return plain and len(value) == layers and not key.endswith(("_id", "_ids", "architectures"))


def _numbers(names: Iterable[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name in names:
        match = _NUMBERED.match(name)
        if match is not None:
            found.setdefault(match[1], set()).add(int(match[2]))
    return found
