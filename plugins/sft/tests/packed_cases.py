"""One step over the same rows, packed and not, under every layout; spawned ranks import it by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.registry import build, registry
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training.examples import ExampleLoader, Examples
from lmgraft.training.packing import PackedExamples
from safetensors.torch import save_file

CONTEXT = 48
SIZES = {"layers": 2, "hidden": 32, "heads": 4, "mlp": 48, "context": CONTEXT}
MODELS: dict[str, dict[str, Any]] = {"llama": {"kv_heads": 2}, "gpt2": {}}


def part(seam: str, name: str, **settings: Any) -> Any:
    """A part as a recipe gets it: by its name, through the registry."""
    component = registry().get(seam, name).component
    return build(component, component.config(**settings))


@dataclass(frozen=True)
class OneStep:
    """The gradient of one batch that holds every row once, of each model."""

    rows: Path
    vocab_size: int
    packed: bool
    out: Path
    micro_batch: int | None = None
    device: str = "cpu"

    def __call__(self, make_engine: Callable[[EnginePlan], Engine]) -> None:
        for model in MODELS:
            self._step(make_engine(self._plan(model)), self.out / model)

    def _plan(self, model: str) -> EnginePlan:
        return EnginePlan(
            architecture=part("architecture", model, **SIZES, **MODELS[model]),
            vocab_size=self.vocab_size,
            device="cpu",
            precision="float32",
            seed=5,
            initializer=part("initializer", "normal", std=0.08),
            objective=part("objective", "sft"),
            optimizer=part("optimizer", "adamw", lr=1e-3),
            clip=None,
        )

    def _step(self, engine: Any, folder: Path) -> None:
        examples = Examples(self.rows, 0)
        shuffled = PackedExamples(examples, CONTEXT) if self.packed else examples
        loader = ExampleLoader(shuffled, len(shuffled), seed=1)
        rank, size = engine.data
        stats = engine.forward_backward(loader.microbatches(0, rank, size, self.micro_batch))
        gradients = engine.gradients()
        if engine.main:
            folder.mkdir(parents=True)
            save_file({name: value.contiguous() for name, value in gradients.items()}, folder / "gradients")
            told = {"loss": stats.loss, "norm": stats.grad_norm, **stats.metrics}
            (folder / "told.json").write_text(json.dumps(told))
