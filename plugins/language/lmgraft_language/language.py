"""Filter ``language``: keeps documents in given languages, and counts the languages of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lmgraft.errors import Fault, Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import Verdict

from lmgraft_language.codes import normal
from lmgraft_language.plugin import LanguageConfig, Model

__all__ = ["FastTextLanguage", "Language", "language"]

UNKNOWN = "und"


class _Identifier(Protocol):
    def identify(self, texts: Sequence[str]) -> list[tuple[str, float]]: ...


class Language:
    """Row-wise. FineWeb's rule (Penedo et al. 2024, arXiv:2406.17557, section 3): a document stays where its
    likeliest language is one of ``keep``, with a probability of ``min_score`` or more.

    Reasons: ``uncertain`` (too low a probability, or ``und``: too short, no language), ``other_language``. Counts: the
    code of each document's likeliest language, dropped or not, so that the funnel shows how they are distributed.
    With ``keep`` empty nothing is dropped.

    Of chats and pairs all texts together are identified. Chinese in either script is ``zh``. Not implemented: documents
    in several languages (the likeliest counts for the whole), other thresholds for other languages.
    """

    def __init__(self, config: LanguageConfig) -> None:
        self.config = config
        self._keep = frozenset(map(normal, config.keep))
        self._identifier: _Identifier | None = None

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        identifier = self._loaded()
        texts = [_text(document) for document in batch]
        long = [number for number, text in enumerate(texts) if len(text) >= max(1, self.config.min_chars)]
        found = dict(zip(long, identifier.identify([texts[number] for number in long]), strict=True))
        return [self._verdict(*found.get(number, (UNKNOWN, 0.0))) for number in range(len(batch))]

    def _loaded(self) -> _Identifier:
        """The model, loaded when the first document comes: a run that finds its corpus in the store has no use for it.

        :raises UserError: ``keep`` names a language that it does not know, so that every document of it were lost.
        """
        if self._identifier is None:
            self._identifier, known = _bayes()
            unknown = sorted(self._keep - known)
            if unknown:
                cause = f"py3langid's model knows {', '.join(sorted(known))}"
                remedy = "leave it out, or take a fastText model that knows it: language.model=fasttext"
                raise UserError(
                    Problem(f"language.keep has {unknown[0]}, which the model does not know", cause, remedy)
                )
        return self._identifier

    def _verdict(self, code: str, score: float) -> Verdict:
        if not self._keep:
            return _verdict(code, "")
        if score < self.config.min_score or (code == UNKNOWN and UNKNOWN not in self._keep):
            return _verdict(code, "uncertain")
        return _verdict(code, "" if code in self._keep else "other_language")


class FastTextLanguage(Language):
    """With a fastText model, which counts as something that the filter learns from: its content is part of the key."""

    def inputs(self) -> Mapping[str, str]:
        return {"model": str(Path(self.config.path or "").expanduser())}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        from lmgraft_language.fasttext_model import FastText

        self._identifier = FastText(Path(self.inputs()["model"]))

    def _loaded(self) -> _Identifier:
        if self._identifier is None:
            raise Fault("language was asked to judge before its model was loaded")
        return self._identifier


def language(config: LanguageConfig) -> Language:
    """The filter with the model that is set."""
    return FastTextLanguage(config) if config.model is Model.fasttext else Language(config)


@lru_cache(maxsize=1)
def _bayes() -> tuple[_Identifier, frozenset[str]]:
    """The bundled model and the codes that it gives; takes half a second and 80 MB, so once a process."""
    from lmgraft_language.bayes import Bayes

    model = Bayes()
    return model, model.codes


@lru_cache(maxsize=4096)
def _verdict(code: str, reason: str) -> Verdict:
    return Verdict(keep=not reason, reason=reason, counts={code: 1})


def _text(document: Document) -> str:
    if document.text is not None:
        return document.text
    said = [message.get("content") for message in document.messages or ()]
    parts = [*said, document.prompt, document.chosen, document.rejected]
    return "\n".join(part for part in parts if isinstance(part, str))
