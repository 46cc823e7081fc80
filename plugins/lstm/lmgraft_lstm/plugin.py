"""The architecture ``lstm``: its name and its settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["MODEL_TYPE", "LstmConfig"]

#: Hugging Face has no such language model.
MODEL_TYPE = "lmgraft_lstm"
#: No size is larger: what is, would end in an error of torch's.
LARGEST = 2**31 - 1
REMEDY = "take config.json from where the weights came from"
#: Field -> key of ``config.json``.
KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "context": "max_position_embeddings",
    "tied": "tie_word_embeddings",
    "forget_bias": "forget_bias",
}


@dataclass
class LstmConfig(ComponentConfig):
    """The defaults are a small model for a processor: 1.1 million parameters beside the embeddings."""

    layers: int = 2
    """LSTM layers, one on top of the other."""
    hidden: int = 256
    """Width of the embedding, of each layer's state and of its output."""
    context: int = 256
    """The longest sequence it is trained and asked with; a recurrence itself has no longest one."""
    tied: bool = False
    """The head is the embedding matrix."""
    forget_bias: float = 1.0
    """Added to the forget gates' bias, which an initializer lets start at 0: at 1 a new model remembers."""

    model_types: ClassVar[tuple[str, ...]] = (MODEL_TYPE,)

    def check(self) -> Iterator[str]:
        for name in ("layers", "hidden", "context"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem]:
        length = getattr(recipe.stage(stage).config, "seq_len", 0)
        if isinstance(length, int) and length > self.context:
            cause = f"the model is made for sequences of {self.context} tokens at most"
            yield Problem(f"{stage}.seq_len={length}", cause, f"{stage}.seq_len={self.context}, or a longer context")

    def spec(self) -> None:
        """It is no standard decoder: layouts that build their own layers refuse it."""
        return

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> LstmConfig | None:
        """The settings of a ``config.json`` that this architecture wrote; None where another did.

        :raises UserError: a value is damaged or missing, one problem each.
        """
        if config.get("model_type") != MODEL_TYPE:
            return None
        problems = [
            Problem(f"config.json sets {key} to {config.get(key)!r}", f"it is {wanted}", REMEDY)
            for key, (fits, wanted) in {**{key: _VALUES[name] for name, key in KEYS.items()}, **_OTHERS}.items()
            if not fits(config.get(key))
        ]
        if problems:
            raise UserError(problems)
        return cls(**{name: config[key] for name, key in KEYS.items()})


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_WHOLE = _whole, "a whole number from 1 on"
#: Field -> does a value of a file fit it, and in words.
_VALUES = {
    "layers": _WHOLE,
    "hidden": _WHOLE,
    "context": _WHOLE,
    "tied": (lambda value: isinstance(value, bool), "true or false"),
    "forget_bias": (_finite, "a finite number"),
}
_OTHERS = {"vocab_size": _WHOLE}


@hookimpl
def lmgraft_architecture() -> list[Component[Any]]:
    return [
        Component(
            name="lstm",
            target="lmgraft_lstm.architecture:Lstm",
            config=LstmConfig,
            summary="Stacked LSTM: a recurrence where the others have attention",
        )
    ]
