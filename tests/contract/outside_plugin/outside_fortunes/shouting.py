"""Filter ``shouting``: drops documents whose share of upper-case letters is too large."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from outside_fortunes.plugin import ShoutingConfig

__all__ = ["Shouting"]


class Shouting:
    """Row-wise; the reason is ``shouting``."""

    def __init__(self, config: ShoutingConfig) -> None:
        self.config = config

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [KEEP if _share(d.text or "") <= self.config.share else Verdict.drop("shouting") for d in batch]


def _share(text: str) -> float:
    letters = [character for character in text if character.isalpha()]
    return sum(character.isupper() for character in letters) / len(letters) if letters else 0.0
