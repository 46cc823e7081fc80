"""The objective ``dpo``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["DPOConfig", "LossType"]


class LossType(Enum):
    sigmoid = "sigmoid"
    ipo = "ipo"


@dataclass
class DPOConfig(ComponentConfig):
    beta: float = 0.1
    """How strongly the policy is held to the reference: 0.1 to 0.5 are usual, smaller lets it go further."""
    label_smoothing: float = 0.0
    """The share of pairs whose preference is taken to be the wrong way round (conservative DPO)."""
    loss: LossType = LossType.sigmoid
    """``sigmoid``: DPO's own; ``ipo``: Azar et al. 2023, whose margin ends at 1 / (2 beta)."""
    template: str | None = "solar"
    """How prompts are written: ``solar``, ``alpaca``, ``chatml``, or a Jinja source; null takes the one that the
    model's own tokenizer carries. It must be the one that the model was tuned with."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:chosen", "columns:rejected", "reference"})

    def encoding(self) -> Mapping[str, Any]:
        """How a pair becomes tokens; the other settings are of the loss."""
        return {"template": self.template}

    def check(self) -> Iterator[Problem | str]:
        if self.beta <= 0:
            yield f"beta is {self.beta}; it must be above 0"
        if not 0 <= self.label_smoothing < 0.5:
            yield f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 0.5"
        if self.loss is LossType.ipo and self.label_smoothing:
            yield "label_smoothing belongs to the sigmoid loss; with ipo it must be 0"
        if self.template is not None and "{" not in self.template:
            from lmgraft.chat import TEMPLATES

            if self.template not in TEMPLATES:
                yield f"template is {self.template!r}; it is one of {', '.join(TEMPLATES)}, a Jinja source, or null"


@hookimpl
def lmgraft_objective() -> list[Component[Any]]:
    return [
        Component(
            name="dpo",
            target="lmgraft_dpo.objective:DPO",
            config=DPOConfig,
            summary="Direct preference optimization against a scored reference",
        )
    ]
