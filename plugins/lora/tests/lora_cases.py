"""Models of every family with weights on disk, adapted; and what ranks are asked to do with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lmgraft.registry import build, registry
from lmgraft.seams.adapter import Adapted
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import weights
from torch import nn

VOCABULARY = 50
_SMALL: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 4, "context": 64}
_NARROW: dict[str, Any] = {**_SMALL, "kv_heads": 2, "mlp": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _NARROW,
    "gpt2": _SMALL,
    "falcon": _SMALL,
    "bloom": _SMALL,
    "mixtral": {**_NARROW, "experts": 4},
    "lstm": {"layers": 2, "hidden": 32, "context": 64},
}
#: Those that transformers has.
HUGGING = tuple(name for name in FAMILIES if name != "lstm")
RATE = 0.01
BASES = ("float32", "bfloat16", "int8")


def part(seam: str, name: str, **settings: Any) -> Any:
    """A part of the registry; enumerations by their word."""
    component = registry().get(seam, name).component
    plain = component.config()
    for key, value in settings.items():
        given = getattr(plain, key, None)
        settings[key] = type(given)(value) if isinstance(value, str) and given is not None else value
    return build(component, component.config(**settings))


def family(name: str) -> Architecture:
    made: Architecture = part("architecture", name, **FAMILIES[name])
    return made


def plain(name: str, folder: Path, std: float = 0.1) -> tuple[Architecture, nn.Module]:
    """A model with drawn weights, and its model folder."""
    architecture = family(name)
    module = weights.materialise(architecture, VOCABULARY, "cpu")
    weights.initialise(module, architecture, part("initializer", "normal", std=std), 1)
    folder.mkdir(parents=True, exist_ok=True)
    weights.export(folder, weights.canonical(module), architecture, VOCABULARY)
    return architecture, module.eval()


def adapted(architecture: Architecture, folder: Path, **settings: Any) -> tuple[Adapted, nn.Module]:
    """The architecture with lora in it, and a module with the folder's weights."""
    if "lstm" in type(architecture).__name__.lower():
        settings.setdefault("targets", ["other"])
    made: Adapted = part("adapter", "lora", **settings).adapt(architecture)
    module = weights.materialise(made, VOCABULARY, "cpu")
    weights.load_into(module, made, folder, seed=3)
    return made, module.eval()


def disturb(made: Adapted, module: nn.Module, std: float = 0.1) -> None:
    """Draws all of the adapter, so that it matters."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if made.role(name).role is Role.ADAPTER:
                parameter.normal_(0.0, std, generator=generator)


def ids(rows: int = 2, length: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def logprob(module: nn.Module, seed: int = 0) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = module(ids(seed=seed), targets=ids(seed=seed + 1), asks=frozenset({"logprob"})).logprob
    return out


def batch(step: int, first: int = 0, rows: int = 4) -> Batch:
    """Rows ``first`` to ``first + rows`` of a step's four; each begins a sum that a model can learn."""
    tokens = (torch.arange(13) * torch.tensor([1, 2, 3, 4])[:, None] + step) % VOCABULARY
    tokens = tokens[first : first + rows]
    positions = torch.arange(12).expand(len(tokens), 12)
    return Batch(
        tokens=tokens[:, :-1], targets=tokens[:, 1:], weights=torch.ones(len(tokens), 12), positions=positions,
        segments=torch.zeros_like(positions),
    )  # fmt: skip


def plan(name: str, folder: Path, adapter: Mapping[str, Any], **changes: Any) -> EnginePlan:
    made = part("adapter", "lora", **adapter).adapt(family(name))
    values: dict[str, Any] = {
        "architecture": made, "vocab_size": VOCABULARY, "device": "cpu", "precision": "float32", "seed": 3,
        "weights": folder, "objective": part("objective", "causal_lm"), "clip": 1.0,
        "optimizer": part("optimizer", "adamw", lr=RATE, weight_decay=0.5), "trainable": frozenset({Role.ADAPTER}),
    }  # fmt: skip
    return EnginePlan(**(values | changes))


@dataclass(frozen=True)
class Work:
    """Trains for a few steps on each rank, once with each kind of frozen weights, and writes into a folder of that name
    the checkpoints before and after, and the model."""

    model: Path
    out: Path
    targets: Sequence[str]
    steps: int = 5

    def __call__(self, make_engine: Any) -> None:
        for base in BASES:
            self._train(
                make_engine(plan("llama", self.model, {"base": base, "targets": self.targets})), self.out / base
            )

    def _train(self, engine: Any, out: Path) -> None:
        rank, size = engine.data
        engine.save(out / "start")
        for step in range(self.steps):
            engine.forward_backward([batch(step, rank * 4 // size, 4 // size)])
            engine.apply(RATE)
        engine.save(out / "end")
        engine.export(out / "model")
