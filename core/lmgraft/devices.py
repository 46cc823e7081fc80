"""What ``device: auto`` and ``precision: auto`` mean on this machine, found without importing torch if possible."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

from lmgraft.errors import Problem, UserError

__all__ = ["resolve_device", "resolve_precision"]


@lru_cache(maxsize=4)
def resolve_device(device: str) -> str:
    """``cpu``, ``cuda`` or ``mps``. Torch is imported only where an accelerator may be or was asked for."""
    maybe_cuda = any(Path("/dev").glob("nvidia[0-9]*")) or sys.platform == "win32" or Path("/dev/dxg").exists()
    if device == "cpu" or (device == "auto" and not maybe_cuda and sys.platform != "darwin"):
        return "cpu"
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((name for name, there in has.items() if there), "cpu")
    if not has.get(device, False):
        cause = f"this torch ({torch.__version__}) sees no {device} device"
        raise UserError(
            Problem(f"device={device} is not available", cause, "device=cpu, or install a torch built for it")
        )
    return device


def resolve_precision(precision: str, device: str) -> str:
    """``auto`` is bfloat16 on CUDA and on processors that multiply it natively, float32 elsewhere. ``int8`` is for
    models that are only asked: their projections' weights are 8-bit integers (:mod:`lmgraft.training.int8`).

    :raises UserError: no such precision.
    """
    if precision in ("float32", "bfloat16", "int8"):
        return precision
    if precision != "auto":
        cause = "a model computes in float32 or bfloat16, and one that is only asked may hold int8 weights"
        raise UserError(Problem(f"precision={precision} is not known", cause, "auto, float32, bfloat16 or int8"))
    if device == "cuda" or (device == "cpu" and _multiplies_bfloat16()):
        return "bfloat16"
    return "float32"


@lru_cache(maxsize=1)
def _multiplies_bfloat16() -> bool:
    """Linux on x86: AMX tiles (Sapphire Rapids on) or AVX-512 BF16 (Cooper Lake, Zen 4 on). Read, not measured."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
