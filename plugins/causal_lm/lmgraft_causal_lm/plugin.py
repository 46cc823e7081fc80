"""The objective ``causal_lm``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["CausalLMConfig"]


@dataclass
class CausalLMConfig(ComponentConfig):
    z_loss: float = 0.0
    """Weight of the squared logarithm of the softmax's denominator, which keeps logits from drifting; PaLM takes
    1e-4. 0 leaves it out."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def provides(self) -> frozenset[str]:
        """A sum over tokens: rows may share a sequence."""
        return frozenset({"packable"})

    def encoding(self) -> Mapping[str, Any]:
        """Nothing here changes what the rows become."""
        return {}

    def check(self) -> Iterator[str]:
        if self.z_loss < 0:
            yield f"z_loss is {self.z_loss}; it must be at least 0"


@hookimpl
def lmgraft_objective() -> list[Component[Any]]:
    return [
        Component(
            name="causal_lm",
            target="lmgraft_causal_lm.objective:CausalLM",
            config=CausalLMConfig,
            summary="Predict the next token of plain text",
        )
    ]
