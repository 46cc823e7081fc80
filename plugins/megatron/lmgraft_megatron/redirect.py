"""Megatron's layers and schedules on a processor: what they ask of CUDA by name is given them on the CPU.

Megatron-core takes its device from ``torch.cuda.current_device()`` and from ``device="cuda"``. Inside :func:`on_cpu`
both mean the CPU, ``Tensor.cuda`` leaves a tensor where it is, ``Tensor.type()`` gives the name of CUDA's type (the
distributed optimizer knows no other), and waiting for a device waits for nothing. Never active where CUDA is: there
Megatron runs as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lmgraft.errors import Problem, UserError
from torch.overrides import TorchFunctionMode

__all__ = ["on_cpu"]

CPU = torch.device("cpu")


class _Redirect(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.type and len(args) == 1 and not named:
            return func(*args).replace("torch.", "torch.cuda.")
        device = named.get("device")
        if device is not None and str(device).startswith("cuda"):
            named["device"] = CPU
        return func(*args, **named)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Redirects, in this process, until it is left. Raises UserError where CUDA is."""
    if torch.cuda.is_available():
        cause = "megatron-core takes CUDA wherever torch finds it, and its redirection to the CPU stays off there"
        remedy = "set device=cuda, or hide the GPUs: CUDA_VISIBLE_DEVICES= lmgraft run ..."
        raise UserError(Problem("megatron cannot run on the CPU of this machine", cause, remedy))
    instead: dict[str, Any] = {"current_device": lambda: CPU, "synchronize": lambda *_: None}
    before = {name: getattr(torch.cuda, name) for name in instead}
    for name, function in instead.items():
        setattr(torch.cuda, name, function)
    try:
        with _Redirect():
            yield
    finally:
        for name, function in before.items():
            setattr(torch.cuda, name, function)
