"""The angles of rotary positions that follow from a spec: one place for all engines.

Su et al. 2021, arXiv:2104.09864; ``linear``: Chen et al. 2023, arXiv:2306.15595; ``llama3``: Llama 3.1's code and
transformers' ``modeling_rope_utils``, whose numbers these are.
"""

from __future__ import annotations

import math

import torch

from lmgraft.errors import Fault
from lmgraft.seams.architecture import DecoderSpec, RopeScaling

__all__ = ["inverse_frequencies"]


def inverse_frequencies(spec: DecoderSpec, device: torch.device | str | None = None) -> torch.Tensor:
    """(head_dim / 2) float32: the angle, in radians, by which pair i turns from one position to the next.

    Raises :class:`lmgraft.errors.Fault` for a kind of scaling that nobody wrote.
    """
    steps = torch.arange(0, spec.head_dim, 2, dtype=torch.float32, device=device)
    plain = 1.0 / spec.rope_theta ** (steps / spec.head_dim)
    scaling = spec.rope_scaling
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(plain, scaling)
    raise Fault(f"rotary positions cannot be scaled by {scaling.kind!r}; there are linear and llama3")


def _llama3(plain: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Long wavelengths are stretched whole, short ones not at all, those between by a share that grows linearly."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_context * plain / (2 * math.pi)  # how often a pair turns round within the old context
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - kept) * plain / scaling.factor + kept * plain
