"""Filter ``gopher_repetition``: the repetition rules of Gopher (Rae et al. 2021, arXiv:2112.11446, Table A1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import Verdict

from lmgraft_web_rules.duplicates import repeated
from lmgraft_web_rules.groups import judged
from lmgraft_web_rules.ngrams import Grams, dup_characters, top_characters
from lmgraft_web_rules.plugin import GopherRepetitionConfig
from lmgraft_web_rules.vocabulary import Words, vocabulary

__all__ = ["GopherRepetition"]

FEEDS = re.compile(r"\n{3,}")


class GopherRepetition:
    """Row-wise. The first rule that is broken is the reason; in order, shares being of the document's characters where
    they speak of characters:

    - ``empty``: no text.
    - ``dup_para_frac``, ``dup_para_char_frac``: paragraphs (parted by empty lines) that were there before, over 30%
      of them, or with over 20% of characters.
    - ``dup_line_frac``, ``dup_line_char_frac``: the same of lines.
    - ``top_2_gram``, ``top_3_gram``, ``top_4_gram``: all occurrences of the most frequent n words in a row, of equals
      the first, hold over 20, 18 or 16% of characters; spaces between the words are counted. It may come but once: a
      document of three words is dropped.
    - ``duplicated_5_n_grams`` to ``duplicated_10_n_grams``: n words in a row that were there before hold over 15, 14,
      13, 12, 11 or 10% of characters. What is counted is stepped over, so that no character counts twice; spaces are
      not counted.

    Limits are on the side of keeping. Nothing of the table is left out; what it leaves open (characters or bytes, ties,
    overlaps) is settled as datatrove does.
    """

    def __init__(self, config: GopherRepetitionConfig) -> None:
        self.config = config
        self._vocabulary = vocabulary(config.words)
        self._top, self._dup = (
            [(n, limit) for n, limit in sorted(grams.items()) if limit is not None]
            for grams in (config.top_n_grams, config.dup_n_grams)
        )

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return judged(batch, self._reasons)

    def _reasons(self, texts: Sequence[str]) -> list[str]:
        reasons = [self._parts(text) for text in texts]
        left = [row for row, reason in enumerate(reasons) if not reason]
        if left and (self._top or self._dup):
            for row, reason in zip(left, self._grams([texts[row] for row in left]), strict=True):
                reasons[row] = reason
        return reasons

    def _parts(self, text: str) -> str:
        if not text:
            return "empty"
        config = self.config
        plain = FEEDS.sub("\n\n", text) if "\n\n\n" in text else text
        paragraphs = plain.strip().split("\n\n")
        number, characters = repeated(paragraphs)
        if _over(number, len(paragraphs), config.max_dup_paragraphs):
            return "dup_para_frac"
        if _over(characters, len(text), config.max_dup_paragraph_chars):
            return "dup_para_char_frac"
        lines = plain.replace("\n\n", "\n").split("\n")
        number, characters = repeated(lines)
        if _over(number, len(lines), config.max_dup_lines):
            return "dup_line_frac"
        return "dup_line_char_frac" if _over(characters, len(text), config.max_dup_line_chars) else ""

    def _grams(self, texts: Sequence[str]) -> list[str]:
        words = self._vocabulary.words(texts)
        grams = Grams(self._vocabulary, words)
        reasons = [""] * len(texts)
        for n, limit in self._top:
            for row, most in enumerate(grams.top(n).tolist()):
                if most and not reasons[row] and _over(most, len(texts[row]), limit):
                    exact = top_characters(self._listed(words, row), n)
                    reasons[row] = f"top_{n}_gram" if _over(exact, len(texts[row]), limit) else ""
        for n, limit in self._dup:
            for row, most in enumerate(grams.dups(n).tolist()):
                if most and not reasons[row] and _over(most, len(texts[row]), limit):
                    exact = dup_characters(self._listed(words, row), n)
                    reasons[row] = f"duplicated_{n}_n_grams" if _over(exact, len(texts[row]), limit) else ""
        return reasons

    def _listed(self, words: Words, row: int) -> list[str]:
        start = int(words.ends[row - 1]) if row else 0
        return self._vocabulary.listed(words.ids[start : int(words.ends[row])].tolist())


def _over(part: int, whole: int, limit: float | None) -> bool:
    return limit is not None and part / whole > limit
