"""A torch optimizer's state as safetensors: ``<parameter>.<key>``, one tensor a parameter and key.

Named by parameter and not by number, so that the file outlives a change of grouping or layout. Values are kept in
their own dtype: torch's ``load_state_dict`` would cast them to the parameter's, and a resumed run would then differ
from an unbroken one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lmgraft.errors import Fault

__all__ = ["load", "save"]


def save(optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str], path: Path) -> None:
    """Writes every tensor and number of the state; numbers as float64, listed in the metadata.

    ``names`` leads from each parameter that the optimizer holds, the tensor itself, to its canonical name:
    ``{parameter: name for name, parameter in module.named_parameters()}``. ``path`` is the file.

    :raises Fault: the state holds something else.
    """
    tensors: dict[str, torch.Tensor] = {}
    numbers: list[str] = []
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            name = f"{names[parameter]}.{key}"
            if isinstance(value, torch.Tensor):
                tensors[name] = value.detach().cpu().contiguous()
            elif isinstance(value, int | float):
                tensors[name] = torch.tensor(float(value), dtype=torch.float64)
                numbers.append(name)
            elif value is not None:
                raise Fault(f"{type(optimizer).__name__} keeps a {type(value).__name__} as {key}; it cannot be saved")
    # One entry only: the library writes several in an order of chance, and two checkpoints would differ in their bytes.
    save_file(tensors, path, metadata={"numbers": json.dumps(sorted(numbers))})


def load(optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str], path: Path) -> None:
    """Puts the state back onto the parameters' devices; ``names`` as for :func:`save`."""
    by_name = {name: parameter for parameter, name in names.items()}
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    optimizer.state.clear()
    with safe_open(path, framework="pt", device="cpu") as stored:
        numbers = set(json.loads(stored.metadata()["numbers"]))
        for name in stored.keys():  # noqa: SIM118 (a handle, not a dict)
            owner, _, key = name.rpartition(".")
            parameter, value = by_name[owner], stored.get_tensor(name)
            if name in numbers:
                optimizer.state[parameter][key] = value.item()
                continue
            group = groups[parameter]
            # Torch keeps the step count on the CPU, unless a kernel on the device reads it.
            stays = key == "step" and not (group.get("fused") or group.get("capturable"))
            optimizer.state[parameter][key] = value if stays else value.to(parameter.device)
