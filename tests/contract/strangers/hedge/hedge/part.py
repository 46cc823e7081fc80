from dataclasses import dataclass

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl


@dataclass
class Hedge(ComponentConfig):
    eps: float = 0.1
    """Share of each target that goes to all tokens alike."""
    calm: float = 0.0
    """Nats of loss that a nat of entropy is worth."""

    def needs(self):
        return frozenset({"columns:text"})

    def check(self):
        if not 0 <= self.eps < 1:
            yield f"eps is {self.eps}; it must be 0 or more and below 1"
        if not 0 <= self.calm < float("inf"):
            yield f"calm is {self.calm}; it must be finite and not below 0"


@hookimpl
def lmgraft_objective():
    return [
        Component(
            name="hedge",
            target="hedge.loss:Hedge",
            config=Hedge,
            summary="Next token, smoothed labels, confidence penalty",
            variants=("timid",),
        )
    ]
