"""Weights and optimizer state between this rank's shards and files of whole canonical tensors.

The files are those of every engine: ``model.safetensors`` and ``optimizer.safetensors`` of unfused, unsharded tensors
(``lmgraft.training.optimizer_state``), so a checkpoint of one layout goes on under each other one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
from torch import nn

from lmgraft_megatron import sharing
from lmgraft_megatron.layout import Layout
from lmgraft_megatron.masters import Masters

__all__ = ["State", "canonical_shapes", "export", "load", "start", "whole_state", "write"]

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def canonical_shapes(plan: EnginePlan) -> dict[str, torch.Size]:
    """Every canonical tensor of the model, a tied one once."""
    module = plan.architecture.build(plan.vocab_size, "meta")
    return {name: tensor.shape for name, tensor in weights.canonical(module).items()}


def start(plan: EnginePlan, masters: Masters, shapes: Mapping[str, torch.Size]) -> None:
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
    assert plan.weights is not None, "asked only where weights are given"
    stored: Mapping[str, torch.Tensor] = checkpoint.tensors(plan.weights)
    translate = getattr(plan.architecture, "from_hub", None)
    if translate is not None:
        stored = translate(stored)
    problems = list(_differences(plan.weights, stored, shapes))
    if problems:
        raise UserError(problems)
    return stored


def _differences(
    folder: Path, stored: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size]
) -> Iterator[Problem]:
    remedy = "give the stage the architecture settings that the model was made with (see its config.json)"
    for name, shape in shapes.items():
        if name not in stored:
            yield Problem(f"{folder} lacks the tensor {name}", "the architecture of the recipe has it", remedy)
        elif stored[name].shape != shape:
            cause = f"the recipe's architecture makes it {tuple(shape)}"
            yield Problem(f"{folder}: {name} is {tuple(stored[name].shape)}", cause, remedy)
    for name in stored:
        # The second name of a tied tensor is no parameter of its own, and other writers store it all the same.
        if name not in shapes and name != "lm_head.weight":
            cause = "the architecture of the recipe has none of that name"
            yield Problem(f"{folder} holds the tensor {name}", cause, remedy)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """An optimizer's whole state, ``<canonical name>.<key>``; the main rank's."""

    tensors: dict[str, torch.Tensor]
    numbers: list[str]
    """Those that are Python numbers, kept as float64."""


def whole_state(
    optimizer: torch.optim.Optimizer,
    masters: Masters,
    names: Mapping[str, tuple[torch.Size, int]],
    layout: Layout,
) -> State:
    """Gathers the state. Collective; filled on the main rank.

    Tensors of a parameter's shape are joined as the parameter is; single numbers are the same on every rank. Raises
    Fault for anything else: such an optimizer does not work element by element, and so not on shards.
    """
    spread: dict[str, dict[str, Any]] = {}
    small: dict[str, torch.Tensor] = {}
    numbers: set[str] = set()
    for shard, master in masters.unique():
        for key, value in optimizer.state.get(master, {}).items():
            name = f"{shard.name}.{key}"
            if isinstance(value, torch.Tensor) and value.shape == master.shape and value.dim() > 0:
                spread.setdefault(key, {})[shard.name] = (shard, value)
            elif isinstance(value, torch.Tensor) and value.numel() == 1:
                small[name] = value.detach().cpu()
            elif isinstance(value, int | float):
                small[name] = torch.tensor(float(value), dtype=torch.float64)
                numbers.add(name)
            elif value is not None:
                raise Fault(f"{type(optimizer).__name__} keeps {key} in a form that cannot be split over ranks")
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


def load(
    folder: Path, masters: Masters, shapes: Mapping[str, torch.Size], optimizer: torch.optim.Optimizer | None
) -> None:
    """Restores weights and state from whole tensors. Raises UserError where they are another architecture's."""
    with safe_open(folder / MODEL, framework="pt", device="cpu") as stored:
        found = {name: torch.Size(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        if found != dict(shapes):
            cause = "its tensors are not those of this architecture"
            raise UserError(Problem(f"{folder} does not fit", cause, "remove the folder to begin anew"))
    masters.fill(checkpoint.tensors(folder))
    if optimizer is not None:
        _load_state(folder / OPTIMIZER, masters, shapes, optimizer)


def _load_state(
    path: Path, masters: Masters, shapes: Mapping[str, torch.Size], optimizer: torch.optim.Optimizer
) -> None:
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    optimizer.state.clear()
    with safe_open(path, framework="pt", device="cpu") as stored:
        numbers = set(json.loads(stored.metadata()["numbers"]))
        keys: dict[str, list[str]] = {}
        for name in stored.keys():  # noqa: SIM118 (a handle, not a dict)
            owner, _, key = name.rpartition(".")
            keys.setdefault(owner, []).append(key)
        for shard, master in masters.items():
            for key in keys.get(shard.name, ()):
                value = stored.get_tensor(f"{shard.name}.{key}")
                if f"{shard.name}.{key}" in numbers:
                    optimizer.state[master][key] = value.item()
                    continue
                if value.shape == shapes[shard.name]:
                    value = shard.cut(value).clone()
                optimizer.state[master][key] = _placed(key, value, master, groups[master])


def _placed(key: str, value: torch.Tensor, master: nn.Parameter, group: Mapping[str, Any]) -> torch.Tensor:
    """Torch keeps the step count on the CPU, unless a kernel on the device reads it."""
    if key == "step" and not (group.get("fused") or group.get("capturable")):
        return value
    return value.to(master.device)


def export(folder: Path, model: Mapping[str, torch.Tensor], plan: EnginePlan) -> None:
    """A Hugging Face model folder."""
    translate = getattr(plan.architecture, "to_hub", None)
    tensors = translate(model) if translate is not None else model
    checkpoint.write(folder, tensors, plan.architecture.hub_config(plan.vocab_size))
