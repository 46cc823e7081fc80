"""Filter ``length``: keeps documents whose numbers of characters and words lie within limits."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_length.plugin import LengthConfig

__all__ = ["Length"]


class Length:
    """Row-wise. Characters are judged before words; the first limit that is broken is the reason.

    Reasons: ``too_few_chars``, ``too_many_chars``, ``too_few_words``, ``too_many_words``. A chat or a pair counts as
    the sum of its texts.
    """

    def __init__(self, config: LengthConfig) -> None:
        self.config = config

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [self._judge(_texts(document)) for document in batch]

    def _judge(self, texts: list[str]) -> Verdict:
        config = self.config
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
