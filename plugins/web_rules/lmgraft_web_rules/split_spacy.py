"""Words as spaCy's rules for English have them, a run of non-space characters at a time."""

from __future__ import annotations

from collections.abc import Callable

from lmgraft.errors import Problem, UserError

__all__ = ["splitter"]


def splitter() -> Callable[[str], list[str]]:
    """A function that cuts a run of non-space characters into spaCy's tokens.

    spaCy cuts at white space first and then each piece by itself, so that a piece need be asked about only once.
    Raises UserError where spaCy is not installed.
    """
    try:
        import spacy
    except ImportError:
        cause, remedy = "the library spacy is not installed", "pip install 'lmgraft[spacy]', or words: fast"
        raise UserError(Problem("words: spacy cannot be had", cause, remedy)) from None

    language = spacy.blank("en")

    def split(piece: str) -> list[str]:
        # The zone frees what spaCy would otherwise remember of every word it has ever seen.
        with language.memory_zone():
            return [token.text for token in language.tokenizer(piece)]

    return split
