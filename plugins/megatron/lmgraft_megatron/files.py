"""Weights and optimizer state between this rank's shards and files of whole canonical tensors.

The files are those of every engine: ``model.safetensors`` and ``optimizer.safetensors`` of unfused, unsharded tensors
(``lmgraft.training.optimizer_state``), so a checkpoint of one layout goes on under each other one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import Fault, Problem, UserError
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import weights
from safetensors import safe_open
from safetensors.torch import save_file

from lmgraft_megatron import sharing
from lmgraft_megatron.distributed import Distributed
from lmgraft_megatron.layout import Layout
from lmgraft_megatron.masters import Masters
from lmgraft_megatron.shards import Shard

__all__ = ["State", "canonical_shapes", "load", "start", "whole_state", "write"]

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def canonical_shapes(plan: EnginePlan) -> dict[str, torch.Size]:
    """Every canonical tensor of the model, a tied one once."""
    module = plan.architecture.build(plan.vocab_size, "meta")
    return {name: tensor.shape for name, tensor in weights.canonical(module).items()}


def start(plan: EnginePlan, masters: Masters | Distributed, shapes: Mapping[str, torch.Size]) -> None:
    """Weights from a model folder or from the initializer: tensor by tensor, of which a rank keeps its part.

    :raises UserError: the folder's tensors are not those of the architecture.
    """
    source = _stored(plan, shapes) if plan.weights is not None else _Drawn(plan)
    masters.fill(source)


class _Drawn(dict[str, torch.Tensor]):
    """Each tensor from the initializer, from (seed, name) alone, as ``lmgraft.training.weights`` does."""

    def __init__(self, plan: EnginePlan) -> None:
        super().__init__()
        assert plan.initializer is not None, "weights start from a model folder or from an initializer"
        module = plan.architecture.build(plan.vocab_size, "meta")
        self._plan, self._shape = plan, weights.model_shape(module, plan.architecture)
        self._parameters = dict(module.named_parameters())

    def __getitem__(self, name: str) -> torch.Tensor:
        plan = self._plan
        assert plan.initializer is not None, "checked when this was made"
        generator = torch.Generator().manual_seed(weights.tensor_seed(plan.seed, name))
        tensor = torch.empty(self._parameters[name].shape, dtype=torch.float32)
        plan.initializer.fill(tensor, plan.architecture.role(name), self._shape, generator)
        return tensor


def _stored(plan: EnginePlan, shapes: Mapping[str, torch.Size]) -> Mapping[str, torch.Tensor]:
    """A model folder's tensors under their canonical names, each read when it is asked for."""
    assert plan.weights is not None, "asked only where weights are given"
    stored = checkpoint.tensors(plan.weights)
    translate = getattr(plan.architecture, "from_hub", None) or (lambda tensors: tensors)
    # Headers stand for the tensors: what does not fit is told before a byte of them is read.
    outlines = translate({name: torch.empty(head.shape, device="meta") for name, head in stored.headers.items()})
    found = {name: tuple(outline.shape) for name, outline in outlines.items()}
    problems = list(_differences(plan.weights, found, shapes))
    if problems:
        raise UserError(problems)
    translated: Mapping[str, torch.Tensor] = translate(stored)
    return translated


def _differences(
    folder: Path, stored: Mapping[str, tuple[int, ...]], shapes: Mapping[str, torch.Size]
) -> Iterator[Problem]:
    remedy = "use what the model was made with: the config.json from where the weights came, or its settings"
    for name, shape in shapes.items():
        if name not in stored:
            yield Problem(f"{folder} lacks the tensor {name}", "the architecture that is asked for has it", remedy)
        elif stored[name] != tuple(shape):
            cause = f"the architecture that is asked for makes it {_by(shape)}"
            yield Problem(f"{folder}: {name} is {_by(stored[name])}", cause, remedy)
    for name in stored:
        # The second name of a tied tensor is no parameter of its own, and other writers store it all the same.
        if name not in shapes and name != "lm_head.weight":
            cause = "the architecture that is asked for has none of that name"
            yield Problem(f"{folder} holds the tensor {name}", cause, remedy)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# --- checkpoints ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """An optimizer's whole state, ``<canonical name>.<key>``; the main rank's."""

    tensors: dict[str, torch.Tensor]
    numbers: list[str]
    """Those that are Python numbers, kept as float64."""


def whole_state(
    parts: Iterable[tuple[Shard, str, Any]], names: Mapping[str, tuple[torch.Size, int]], layout: Layout
) -> State:
    """Gathers an optimizer's state, given as (shard, key, value). Collective; filled on the main rank.

    Tensors of a shard's shape are joined as the shards are; single numbers are the same on every rank. Raises Fault
    for anything else: such an optimizer does not work element by element, and so not on shards.
    """
    spread: dict[str, dict[str, tuple[Shard, torch.Tensor]]] = {}
    small: dict[str, torch.Tensor] = {}
    numbers: set[str] = set()
    for shard, key, value in parts:
        name = f"{shard.name}.{key}"
        if isinstance(value, torch.Tensor) and value.dim() > 0 and tuple(value.shape) == shard.shape:
            spread.setdefault(key, {})[shard.name] = (shard, value)
        elif isinstance(value, torch.Tensor) and value.dim() == 0:
            small[name] = value.detach().cpu()
        elif isinstance(value, int | float):
            small[name] = torch.tensor(float(value), dtype=torch.float64)
            numbers.add(name)
        elif value is not None:
            raise Fault(f"the optimizer keeps {key} of {shard.name} in a form that cannot be split over ranks")
    told = sharing.gather_objects((small, numbers, {key: list(held) for key, held in spread.items()}))
    tensors: dict[str, torch.Tensor] = {}
    for part, _, _ in reversed(told):  # the first rank's word counts
        tensors.update(part)
    for key in sorted({key for _, _, keys in told for key in keys}):
        having = {name for _, _, keys in told for name in keys.get(key, ())}
        asked = {name: place for name, place in names.items() if name in having}
        whole = sharing.whole_tensors(asked, spread.get(key, {}), layout)
        tensors.update({f"{name}.{key}": tensor for name, tensor in whole.items()})
    return State(tensors, sorted(set().union(*(names for _, names, _ in told))))


def write(folder: Path, model: Mapping[str, torch.Tensor], state: State | None) -> None:
    save_file({name: tensor.contiguous() for name, tensor in model.items()}, folder / MODEL, metadata={"format": "pt"})
    if state is not None:
        # One entry only, as in optimizer_state: several are written in an order of chance.
        metadata = {"numbers": json.dumps(state.numbers)}
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, folder / OPTIMIZER, metadata=metadata)


def load(folder: Path, masters: Masters | Distributed, shapes: Mapping[str, torch.Size], steps: bool) -> None:
    """Restores weights, and the optimizer's state where the engine ``steps``, from whole tensors.

    :raises UserError: they are another architecture's.
    """
    stored = checkpoint.tensors(folder)
    if {name: header.shape for name, header in stored.headers.items()} != {n: tuple(s) for n, s in shapes.items()}:
        cause = "its tensors are not those of this architecture"
        raise UserError(Problem(f"{folder} does not fit", cause, "remove the folder to begin anew"))
    masters.fill(stored)
    if steps:
        with safe_open(folder / OPTIMIZER, framework="pt", device="cpu") as state:
            masters.restore(_Restored(state))


class _Restored(Mapping[str, Mapping[str, Any]]):
    """Canonical name -> key -> value of a stored state; tensors are read when they are asked for."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._numbers = set(json.loads(state.metadata()["numbers"]))
        self._keys: dict[str, list[str]] = {}
        for name in state.keys():  # noqa: SIM118 (a handle, not a dict)
            owner, _, key = name.rpartition(".")
            self._keys.setdefault(owner, []).append(key)

    def __getitem__(self, name: str) -> dict[str, Any]:
        found = {key: self._state.get_tensor(f"{name}.{key}") for key in self._keys[name]}
        return {key: value.item() if f"{name}.{key}" in self._numbers else value for key, value in found.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
