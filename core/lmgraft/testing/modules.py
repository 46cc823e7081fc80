"""Models with weights that the kit fills, what they are shown, and how two of their answers are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lmgraft.errors import Fault
from lmgraft.seams.architecture import ASKS, Architecture, DecoderSpec, Role, TensorRole
from lmgraft.testing.outcome import Nonconforming
from lmgraft.training import weights

__all__ = [
    "LIMIT",
    "allocations",
    "answered",
    "answers",
    "apart",
    "decoder_shapes",
    "draw",
    "filled",
    "gradients",
    "tokens",
    "unlike",
]

#: Parameters of the largest model that the kit fills.
LIMIT = 30_000_000

#: What is asked of every position, ``greedy`` apart: rounding may turn that round where two tokens are as probable.
POSITIONWISE = tuple(sorted(ASKS - {"next_logits", "greedy"}))


def filled(part: Architecture, vocab_size: int, name: str, draw: Any) -> nn.Module:
    """The module on the CPU in float32, every weight drawn by ``draw`` from a generator of its own, in evaluation mode.

    Raises :class:`Nonconforming` where the model is larger than :data:`LIMIT`.
    """
    count = sum(parameter.numel() for parameter in part.build(vocab_size, "meta").parameters())
    if count > LIMIT:
        raise Nonconforming(
            f"{name} has {count:,} parameters with these settings",
            f"the kit fills models of {LIMIT:,} parameters at most, so that a laptop checks them in seconds",
            "give the suite small ones: settings = {'layers': 2, ...} in its class",
        )
    module = weights.materialise(part, vocab_size, "cpu")
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(weights.tensor_seed(7, key))
            tensor = torch.empty(parameter.shape, dtype=torch.float32)
            draw(tensor, part.role(key), generator)
            parameter.copy_(tensor)
    return module.eval()


def draw(tensor: torch.Tensor, role: TensorRole, generator: torch.Generator) -> None:
    """Weights large enough that every part of a model matters to its answers, and no larger."""
    if role.role is Role.NORM:
        tensor.normal_(1.0, 0.2, generator=generator)
    elif tensor.dim() < 2:
        tensor.normal_(0.0, 0.2, generator=generator)
    else:
        tensor.normal_(0.0, 1.1 * tensor[0].numel() ** -0.5, generator=generator)


def tokens(rows: int, length: int, vocab_size: int, seed: int = 1) -> torch.Tensor:
    """(rows, length) ids."""
    return torch.randint(0, vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def answered(module: nn.Module) -> frozenset[str]:
    """What the model answers; the rest it refuses with a :class:`Fault`, as the contract has it."""
    ids, found = torch.zeros(1, 2, dtype=torch.int64), set()
    for ask in sorted(ASKS):
        try:
            with torch.no_grad():
                out = module(ids, targets=ids, asks=frozenset({ask}))
        except Fault:
            continue
        if getattr(out, ask) is not None:
            found.add(ask)
    return frozenset(found)


def answers(
    module: nn.Module, ids: torch.Tensor, targets: torch.Tensor, asks: Sequence[str] = POSITIONWISE, **given: Any
) -> dict[str, torch.Tensor]:
    """Ask -> (B, T) answer, without gradient."""
    with torch.no_grad():
        out = module(ids, targets=targets, asks=frozenset(asks), **given)
    return {ask: getattr(out, ask) for ask in asks}


def gradients(module: nn.Module, out: Any) -> dict[str, torch.Tensor]:
    """Gradients of the summed log-probabilities of ``out``, which the module has just given."""
    module.zero_grad()
    out.logprob.sum().backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def unlike(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float, where: str = "position"
) -> str:
    """The first answer (B, T, ...) that is not finite or further than ``tolerance`` from what is expected, in words;
    empty where there is none."""
    for ask, right in expected.items():
        left = found[ask]
        if left is None or left.shape != right.shape:
            return f"{ask} is {None if left is None else tuple(left.shape)}, expected {tuple(right.shape)}"
        wrong = ~((left - right).abs() <= tolerance * right.abs().clamp_min(1.0))
        if wrong.any():
            spot = tuple(int(index) for index in wrong.nonzero()[0])
            place = f"row {spot[0]}" + (f", {where} {spot[1]}" if len(spot) > 1 else "")
            return f"{ask} at {place} is {float(left[spot]):.6g}, expected {float(right[spot]):.6g}"
    return ""


def apart(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest distance of two gradients' tensors, relative to a tensor's norm, and where it is.

    One that is nothing but rounding (a key's bias, which softmax does not see) is measured against the thousandth
    part of the whole gradient.
    """
    if left.keys() != right.keys():
        return float("inf"), min(left.keys() ^ right.keys())
    floor = torch.stack([tensor.norm() for tensor in right.values()]).norm() / 1000
    found = [
        (float((left[name] - right[name]).norm() / torch.maximum(right[name].norm(), floor)), name) for name in right
    ]
    worst = max(found, key=lambda one: float("inf") if one[0] != one[0] else one[0])
    return (float("inf") if worst[0] != worst[0] else worst[0]), worst[1]


def decoder_shapes(spec: DecoderSpec, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The canonical parameters that follow from a spec."""
    hidden, width, narrow = spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab_size, hidden)}
    if spec.positions == "learned":
        found["model.embed_positions.weight"] = (spec.context, hidden)
    if spec.embedding_norm:
        found |= _norm("model.embed_norm", spec)
    for layer in range(spec.layers):
        at = f"model.layers.{layer}"
        one = spec.parallel_block and spec.shared_norm
        norms = ("input_layernorm",) if one else ("input_layernorm", "post_attention_layernorm")
        for norm in norms:
            found |= _norm(f"{at}.{norm}", spec)
        projections = [("q", hidden, width), ("k", hidden, narrow), ("v", hidden, narrow), ("o", width, hidden)]
        for letter, into, out in projections:
            bias = spec.bias or (spec.qkv_bias and letter != "o")
            found |= _projection(f"{at}.self_attn.{letter}_proj", into, out, bias)
        if spec.experts:
            found[f"{at}.mlp.router.weight"] = (spec.experts, hidden)
        for mlp in (f"mlp.experts.{e}" for e in range(spec.experts)) if spec.experts else ("mlp",):
            bias = spec.bias and not spec.experts
            for name in ("gate_proj", "up_proj") if spec.gated else ("up_proj",):
                found |= _projection(f"{at}.{mlp}.{name}", hidden, spec.mlp, bias)
            found |= _projection(f"{at}.{mlp}.down_proj", spec.mlp, hidden, bias)
    found |= _norm("model.norm", spec)
    return found if spec.tied else found | {"lm_head.weight": (vocab_size, hidden)}


def _projection(name: str, into: int, out: int, bias: bool) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    if spec.norm == "none":
        return {}
    found: dict[str, tuple[int, ...]] = {f"{name}.weight": (spec.hidden,)}
    return found | ({f"{name}.bias": (spec.hidden,)} if spec.norm == "layernorm" else {})


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        """Bytes of the largest tensor that was made outside ``meta``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(item, torch.Tensor) and item.device.type != "meta":
                self.largest = max(self.largest, item.untyped_storage().nbytes())
        return out


@contextmanager
def allocations() -> Iterator[_Allocations]:
    """Watches what torch makes inside the block."""
    with _Allocations() as found:
        yield found
