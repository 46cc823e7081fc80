"""What the package offers, without importing torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.hookspecs import hookimpl

MODEL_TYPE = "rill"

# Our field -> its key in config.json.
KEYS = {
    "depth": "num_hidden_layers",
    "hidden": "hidden_size",
    "channels": "recurrent_size",
    "horizon": "max_position_embeddings",
    "memory": "initial_memory",
    "epsilon": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}


@dataclass
class RillConfig(ComponentConfig):
    """The defaults are a small model for a processor."""

    depth: int = 4
    """Recurrent blocks."""

    hidden: int = 256
    """Width of the residual stream."""

    channels: int = 384
    """Leaky sums in each block."""

    horizon: int = 256
    """The longest sequence it is made for. The recurrence has no limit of its own; scoring and generation end here."""

    memory: float = 2.0
    """Where leaks start: a channel first keeps sigmoid(memory) of itself from token to token."""

    epsilon: float = 1e-5
    """Added to the mean square inside norms."""

    tied: bool = False
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"norm"})

    def check(self) -> Iterator[str]:
        for field in ("depth", "hidden", "channels", "horizon"):
            if getattr(self, field) < 1:
                yield f"{field} is {getattr(self, field)}; it must be at least 1"
        if self.epsilon <= 0:
            yield f"epsilon is {self.epsilon}; it must be above 0"

    def check_recipe(self, recipe: Any, stage: str) -> Iterator[Problem]:
        length = getattr(recipe.stage(stage).config, "seq_len", None)
        if length is not None and length > self.horizon:
            yield Problem(
                fact=f"{stage}.seq_len is {length}",
                cause=f"the model is made for sequences of at most {self.horizon} tokens",
                remedy=f"set {stage}.architecture.horizon={length}",
            )

    def to_hub(self) -> dict[str, Any]:
        return {key: getattr(self, field) for field, key in KEYS.items()}

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> RillConfig | None:
        if config.get("model_type") != MODEL_TYPE:
            return None
        missing = [key for key in KEYS.values() if key not in config]
        if missing:
            raise UserError(
                Problem(
                    fact="config.json of a rill model is incomplete",
                    cause=f"it lacks {', '.join(missing)}",
                    remedy="export the model again, or write the missing keys by hand",
                )
            )
        return cls(**{field: config[key] for field, key in KEYS.items()})


@hookimpl
def lmgraft_architecture() -> list[Component]:
    return [
        Component(
            name="rill",
            target="rill_lm.network:Rill",
            config=RillConfig,
            summary="Gated linear recurrence: no attention, a state of fixed size",
            variants=("brook",),
        )
    ]
