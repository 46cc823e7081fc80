"""How weights start: from an initializer or from a model folder. Shared by all engines.

Every tensor is drawn from a generator of its own, seeded by (seed, name). So neither the order of the tensors nor the
number of devices they are laid out over changes a single weight, and adding a tensor leaves the others as they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from lmgraft.artifacts import checkpoint
from lmgraft.errors import Fault, Problem, UserError
from lmgraft.seams.adapter import Adapted
from lmgraft.seams.architecture import Architecture, Role, TensorRole
from lmgraft.seams.initializer import Initializer, ModelShape

__all__ = [
    "allocate",
    "canonical",
    "differences",
    "export",
    "initialise",
    "load_into",
    "materialise",
    "model_shape",
    "tensor_roles",
    "tensor_seed",
]


#: More layers than any decoder has; building a module takes a millisecond or so for each.
DEEP = 1000


def materialise(architecture: Architecture, vocab_size: int, device: str) -> nn.Module:
    """A module on ``device`` whose parameters are allocated and not yet filled.

    Built on ``meta`` first, so that no time goes into torch's own initialisation. A module with buffers (tables that
    are computed when it is made, and that no checkpoint holds) is built on the device itself: on ``meta`` those
    would be lost.
    """
    module = architecture.build(vocab_size, "meta")
    if any(True for _ in module.buffers()):
        return architecture.build(vocab_size, device)
    allocate(module, device)
    return module


def allocate(module: nn.Module, device: str) -> None:
    """Gives a module that was built on ``meta`` memory on ``device``, filled with nothing. Tied parameters are tied
    again: ``to_empty`` makes a new tensor for each of their names."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    module.to_empty(device=device)
    for first, *others in names.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(first))


def canonical(module: nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint of the module holds: parameters and persistent buffers, detached, by their canonical names.

    A tied tensor stands there once, under its first name.
    """
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def tensor_seed(seed: int, name: str) -> int:
    """63 bits of sha256 of ``"seed:name"``."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def model_shape(module: nn.Module, architecture: Architecture) -> ModelShape:
    """Depth and width for initializers: from the decoder spec, or else from the parameters themselves. Layers are then
    the highest ``TensorRole.layer`` plus 1 (1 where no parameter has a layer), the width is the last dimension of the
    first matrix in the module's order, most often the embedding's; the width of a head is not known, and a model with
    an embedding and no head has them tied."""
    return _shape(architecture, {name: parameter.shape for name, parameter in module.named_parameters()})


def tensor_roles(
    architecture: Architecture, initializer: Initializer | None, shapes: Mapping[str, Sequence[int]]
) -> dict[str, TensorRole]:
    """What each parameter does, with the learning rate that the initializer's rules give it
    (:class:`lmgraft.seams.initializer.ScalingInitializer`): what an optimizer is built with.

    ``shapes``: canonical name -> whole shape, of *all* parameters of the model in the module's order, on every rank
    alike, whatever of them is trained or lies there.

    :raises Fault: the initializer gives a factor that is no number above 0.
    """
    roles = {name: architecture.role(name) for name in shapes}
    scale = getattr(initializer, "lr_scale", None)
    if scale is None:
        return roles
    shape = _shape(architecture, shapes)
    found = {}
    for name, role in roles.items():
        factor = float(scale(role, tuple(shapes[name]), shape))
        if not (math.isfinite(factor) and factor > 0):
            raise Fault(f"{type(initializer).__name__}.lr_scale gives {factor} for {name}; it must be above 0")
        found[name] = replace(role, lr_scale=factor)
    return found


def initialise(module: nn.Module, architecture: Architecture, initializer: Initializer, seed: int) -> None:
    """Fills every parameter from ``initializer``, one at a time through a float32 tensor on the CPU."""
    shape = model_shape(module, architecture)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(tensor_seed(seed, name))
            tensor = torch.empty(parameter.shape, dtype=torch.float32)
            initializer.fill(tensor, architecture.role(name), shape, generator)
            parameter.copy_(tensor)


def load_into(module: nn.Module, architecture: Architecture, folder: Path, seed: int = 0) -> None:
    """Copies a model folder's tensors into the module's, whatever the dtype on disk; names and layouts of Hugging Face
    are translated by the architecture where it has its own.

    Parameters of ``Role.ADAPTER`` are in no folder: an adapted architecture fills them
    (:meth:`lmgraft.seams.adapter.Adapted.fill_new`), each from (``seed``, name).

    :raises UserError: names or shapes differ; every difference is a problem of its own.
    """
    stored = checkpoint.tensors(folder)
    problems = _misfits(module, architecture, stored.headers, folder)
    if problems:
        raise UserError(problems)
    translated, new = _from_hub(architecture, stored), _new(module, architecture)
    with torch.no_grad():
        for name, tensor in canonical(module).items():
            if name in new:
                _fill_new(architecture, name, tensor, seed)
            else:
                tensor.copy_(translated[name])


def differences(architecture: Architecture, vocab_size: int, folder: Path) -> list[Problem]:
    """Every tensor in which a model folder is not what the architecture builds: what :func:`load_into` refuses, told
    from headers before any memory is taken. Somebody else's ``config.json`` may name any sizes.

    :raises UserError: the folder's files are damaged.
    """
    stored, spec = checkpoint.headers(folder), architecture.spec()
    if spec is not None and spec.layers > max(DEEP, len(stored)):
        cause = f"the folder holds {len(stored)} tensors in all"
        remedy = "take config.json from where the weights came from"
        return [Problem(f"{folder} does not hold {spec.layers} layers", cause, remedy)]
    return _misfits(architecture.build(vocab_size, "meta"), architecture, stored, folder)


def _misfits(
    module: nn.Module, architecture: Architecture, headers: Mapping[str, checkpoint.Header], folder: Path
) -> list[Problem]:
    new = _new(module, architecture)
    found = {name: tensor for name, tensor in canonical(module).items() if name not in new}
    # Headers stand for the tensors: what does not fit is told before a byte of them is read.
    outlines = {name: torch.empty(header.shape, device="meta") for name, header in headers.items()}
    shapes = {name: tuple(outline.shape) for name, outline in _from_hub(architecture, outlines).items()}
    return list(_differences(found, shapes, set(module.state_dict()).difference(new), folder))


def _new(module: nn.Module, architecture: Architecture) -> frozenset[str]:
    """The parameters that no folder holds."""
    names = (name for name, _ in module.named_parameters())
    return frozenset(name for name in names if architecture.role(name).role is Role.ADAPTER)


def _fill_new(architecture: Architecture, name: str, parameter: torch.Tensor, seed: int) -> None:
    adapted = cast("Adapted", architecture)  # no other has parameters of this role
    tensor = torch.empty(parameter.shape, dtype=torch.float32)
    adapted.fill_new(name, tensor, torch.Generator().manual_seed(tensor_seed(seed, name)))
    parameter.copy_(tensor)


def export(folder: Path, tensors: Mapping[str, torch.Tensor], architecture: Architecture, vocab_size: int) -> None:
    """Writes canonical tensors as a Hugging Face model folder, under the names and in the layout of its class."""
    translate = getattr(architecture, "to_hub", None)
    checkpoint.write(folder, translate(tensors) if translate else tensors, architecture.hub_config(vocab_size))


def _shape(architecture: Architecture, shapes: Mapping[str, Sequence[int]]) -> ModelShape:
    spec = architecture.spec()
    if spec is not None:
        return ModelShape(layers=spec.layers, hidden=spec.hidden, head_dim=spec.head_dim, tied=spec.tied)
    roles = [architecture.role(name) for name in shapes]
    kinds = {role.role for role in roles}
    return ModelShape(
        layers=max((role.layer for role in roles if role.layer is not None), default=0) + 1,
        hidden=next((int(shape[-1]) for shape in shapes.values() if len(shape) == 2), 1),
        tied=Role.EMBEDDING in kinds and Role.HEAD not in kinds,
    )


def _from_hub(architecture: Architecture, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    translate = getattr(architecture, "from_hub", None)
    translated: Mapping[str, torch.Tensor] = translate(tensors) if translate else tensors
    return translated


def _differences(
    named: dict[str, torch.Tensor], stored: Mapping[str, tuple[int, ...]], known: set[str], folder: Path
) -> Iterator[Problem]:
    remedy = "use what the model was made with: the config.json from where the weights came, or its settings"
    for name, tensor in named.items():
        if name not in stored:
            yield Problem(f"{folder} lacks the tensor {name}", "the architecture that is asked for has it", remedy)
        elif stored[name] != tuple(tensor.shape):
            cause = f"the architecture that is asked for makes it {_by(tensor.shape)}"
            yield Problem(f"{folder}: {name} is {_by(stored[name])}", cause, remedy)
    for name in stored:
        # The second name of a tied tensor is no parameter of its own, and other writers store it all the same.
        if name not in known:
            cause = "the architecture that is asked for has none of that name"
            yield Problem(f"{folder} holds the tensor {name}", cause, remedy)


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return " x ".join(str(size) for size in shape) or "a scalar"
