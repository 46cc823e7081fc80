"""The evaluator ``preference``: its name and its settings. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.evaluator import Evaluator

__all__ = ["PreferenceConfig"]


@dataclass
class PreferenceConfig(ComponentConfig):
    template: str = "solar"
    """How prompts are written for models that carry no chat template of their own: ``solar``, ``alpaca``, ``chatml``,
    or a Jinja source."""
    batch: int = execution(32)
    """Pairs handed to the model in one call."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:chosen", "columns:rejected", "split:validation"})

    def check(self) -> Iterator[str]:
        from lmgraft.chat import TEMPLATES

        if "{" not in self.template and self.template not in TEMPLATES:
            yield f"template is {self.template!r}; it is one of {', '.join(TEMPLATES)}, or a Jinja source"
        if self.batch < 1:
            yield f"batch is {self.batch}; it must be at least 1"


@hookimpl
def lmgraft_evaluator() -> list[Component[Evaluator]]:
    return [
        Component(
            name="preference",
            target="lmgraft_preference.preference:Preference",
            config=PreferenceConfig,
            summary="How often the chosen answer is the likelier one, beside length alone",
        )
    ]
