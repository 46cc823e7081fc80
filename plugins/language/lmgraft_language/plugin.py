"""The light half of ``language``: its settings and where its class lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["LanguageConfig", "Model", "lmgraft_filter"]


class Model(Enum):
    py3langid = "py3langid"
    fasttext = "fasttext"


@dataclass
class LanguageConfig(ComponentConfig):
    """Which languages stay, how sure the model must be, and which model it is."""

    keep: list[str] = field(default_factory=list)
    """Codes of the languages that stay: ISO 639-1, or 639-3 where there is none (``[en, zh]``); a script after ``-`` or
    ``_`` is passed over. Empty keeps every document, and counts languages only."""
    min_score: float = 0.65
    """A document whose likeliest language has a lower probability is dropped (FineWeb's threshold, for fastText)."""
    min_chars: int = 20
    """A shorter text is not identified: its language is ``und``."""
    model: Model = Model.py3langid
    """``py3langid`` has its model with it (139 languages); ``fasttext`` reads the one at ``path``."""
    path: str | None = execution(None)
    """A fastText model of your own: lid.176.bin or .ftz, GlotLID. What it holds is part of the key."""

    def check(self) -> Iterator[Problem | str]:
        if not 0 <= self.min_score <= 1:
            yield f"min_score is {self.min_score}; a probability lies between 0 and 1"
        if self.min_chars < 0:
            yield f"min_chars is {self.min_chars}; it cannot be negative"
        for code in self.keep:
            language = code.replace("_", "-").split("-")[0]
            if not (language.isascii() and language.isalpha() and 2 <= len(language) <= 3):
                yield f"keep has {code!r}; a language has a code of two letters (en) or three (ceb)"
        if self.model is Model.fasttext:
            yield from self._check_fasttext()

    def _check_fasttext(self) -> Iterator[Problem | str]:
        from importlib.util import find_spec

        if self.path is None:
            yield "path is null; the model fasttext is one of your own (lid.176.bin), and nothing is downloaded"
        if find_spec("fasttext") is None:
            cause = "not installed"
            yield Problem("language.model=fasttext needs fasttext-predict", cause, "pip install fasttext-predict")


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="language",
            target="lmgraft_language.language:language",
            config=LanguageConfig,
            summary="Keeps documents in given languages, and counts all languages",
            requires=("py3langid>=0.4,<0.5",),
        )
    ]
