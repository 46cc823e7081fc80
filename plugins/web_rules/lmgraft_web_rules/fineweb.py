"""Filter ``fineweb``: the rules that FineWeb adds (Penedo et al. 2024, arXiv:2406.17557, section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import Verdict

from lmgraft_web_rules.characters import TERMINALS
from lmgraft_web_rules.duplicates import repeated
from lmgraft_web_rules.groups import judged
from lmgraft_web_rules.plugin import FinewebConfig
from lmgraft_web_rules.vocabulary import vocabulary

__all__ = ["Fineweb"]


class Fineweb:
    """Row-wise. The first rule that is broken is the reason; in order, with lines between line feeds, those of white
    space alone left out:

    - ``empty``: no line.
    - ``line_punct_ratio``: fewer than 12% of lines end in punctuation that ends a sentence.
    - ``short_line_ratio``: more than 67% of lines have 30 characters or fewer.
    - ``char_dup_ratio``: more than 1% of characters, line feeds apart, are in lines that were there before.
    - ``list_ratio``: more than 0.3 line feeds for each word.

    Limits are on the side of keeping. The paper's text has the first three; the last, and the parameters, are those of
    the code that made FineWeb.
    """

    def __init__(self, config: FinewebConfig) -> None:
        self.config = config
        self._vocabulary = vocabulary(config.words)
        self._stop = TERMINALS if config.stop_chars is None else frozenset(config.stop_chars)

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return judged(batch, self._reasons)

    def _reasons(self, texts: Sequence[str]) -> list[str]:
        reasons = [self._lines(text) for text in texts]
        most = self.config.max_newlines
        left = [row for row, reason in enumerate(reasons) if not reason]
        if most is not None and left:
            words = self._vocabulary.words([texts[row] for row in left])
            counts = (words.ends - words.starts).tolist()
            for row, count in zip(left, counts, strict=True):
                if texts[row].count("\n") / count > most:
                    reasons[row] = "list_ratio"
        return reasons

    def _lines(self, text: str) -> str:
        config = self.config
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            return "empty"
        if config.min_line_punctuation is not None:
            ratio = sum(line[-1] in self._stop for line in lines) / len(lines)
            if ratio < config.min_line_punctuation and (ratio or not config.allow_no_punctuation):
                return "line_punct_ratio"
        if config.max_short_lines is not None:
            short = config.short_line
            if sum(len(line) <= short for line in lines) / len(lines) > config.max_short_lines:
                return "short_line_ratio"
        if config.max_dup_line_chars is not None:
            characters = repeated(lines)[1]
            if characters and characters / (len(text) - text.count("\n")) > config.max_dup_line_chars:
                return "char_dup_ratio"
        return ""
