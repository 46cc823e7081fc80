"""From documents to reasons and back, some documents at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

__all__ = ["judged"]

#: Of the texts whose words are looked at together: arrays of this many words stay in the processor's cache.
CHARACTERS = 1 << 18
TEXTS = 512


def judged(batch: Sequence[Document], reasons: Callable[[Sequence[str]], list[str]]) -> list[Verdict]:
    """A verdict for each document: KEEP where its reason is empty, and for documents without a text."""
    verdicts = [KEEP] * len(batch)
    rows: list[int] = []
    characters = 0
    for row, document in enumerate(batch):
        if document.text is None:
            continue
        if rows and (characters + len(document.text) > CHARACTERS or len(rows) == TEXTS):
            _judge(batch, rows, reasons, verdicts)
            rows, characters = [], 0
        rows.append(row)
        characters += len(document.text)
    _judge(batch, rows, reasons, verdicts)
    return verdicts


def _judge(
    batch: Sequence[Document],
    rows: Sequence[int],
    reasons: Callable[[Sequence[str]], list[str]],
    verdicts: list[Verdict],
) -> None:
    found = reasons([batch[row].text or "" for row in rows]) if rows else []
    for row, reason in zip(rows, found, strict=True):
        if reason:
            verdicts[row] = Verdict.drop(reason)
