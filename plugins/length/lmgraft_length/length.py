"""Filter ``length``: keeps documents whose numbers of characters and words lie within limits."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_length.plugin import LengthConfig

__all__ = ["Length"]


class Length:
    """Row-wise. Answers are judged first, then characters, then words; the first limit that is broken is the reason.

    Reasons: ``too_short_answer``, ``too_few_chars``, ``too_many_chars``, ``too_few_words``, ``too_many_words``. A chat
    or a pair counts as the sum of its texts.
    """

    def __init__(self, config: LengthConfig) -> None:
        self.config = config

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [self._judge(document) for document in batch]

    def _judge(self, document: Document) -> Verdict:
        config, texts = self.config, _texts(document)
        least = config.min_answer_chars
        if least is not None and any(len(answer.strip()) < least for answer in _answers(document)):
            return Verdict.drop("too_short_answer")
        reason = _broken(sum(map(len, texts)), config.min_chars, config.max_chars, "chars")
        if not reason and (config.min_words is not None or config.max_words is not None):  # splitting costs
            words = sum(len(text.split()) for text in texts)
            reason = _broken(words, config.min_words, config.max_words, "words")
        return Verdict.drop(reason) if reason else KEEP


def _broken(size: int, low: int | None, high: int | None, unit: str) -> str:
    if low is not None and size < low:
        return f"too_few_{unit}"
    return f"too_many_{unit}" if high is not None and size > high else ""


def _texts(document: Document) -> list[str]:
    if document.text is not None:
        return [document.text]
    parts = [document.prompt, document.chosen, document.rejected]
    parts += [message.get("content") for message in document.messages or ()]
    return [part for part in parts if part]


def _answers(document: Document) -> list[str]:
    """Both answers of a pair; of a chat the assistant's, an empty one where there is none; none of a text."""
    if document.text is not None:
        return []
    if document.chosen is not None or document.rejected is not None:
        return [document.chosen or "", document.rejected or ""]
    said = [message for message in document.messages or () if message.get("role") == "assistant"]
    return [str(message.get("content") or "") for message in said] or [""]
