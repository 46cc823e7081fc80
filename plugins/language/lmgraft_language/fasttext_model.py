"""A fastText model of the user's own (Joulin et al. 2017): lid.176, GlotLID and their like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmgraft.errors import Problem, UserError

from lmgraft_language.codes import normal

__all__ = ["FastText"]

PREFIX = "__label__"


class FastText:
    """Identifies languages with a fastText model. The file is of fastText's own format, numbers and words: reading it
    runs no code, unlike a pickle.

    :raises UserError: the file is no fastText model, or its package is missing.
    """

    def __init__(self, path: Path) -> None:
        try:
            import fasttext
        except ImportError as error:
            cause, remedy = "not installed", "pip install fasttext-predict"
            raise UserError(Problem("language.model=fasttext needs fasttext-predict", cause, remedy)) from error
        try:
            self._model = fasttext.load_model(str(path))
        except (ValueError, RuntimeError, MemoryError) as error:
            fact = f"{path} is no fastText model"
            raise UserError(Problem(fact, str(error), "language.path: a .bin or .ftz that fastText wrote")) from error

    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """(code, probability) of each text's likeliest language; ``und`` where it knows none of the words."""
        return [self._identified(text) for text in texts]

    def _identified(self, text: str) -> tuple[str, float]:
        # One line is what fastText reads, and NUL ends a word of it.
        line = text.replace("\n", " ").replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
        labels, scores = self._model.predict(line)
        if not labels:
            return "und", 0.0
        return normal(labels[0].removeprefix(PREFIX)), min(1.0, float(scores[0]))
