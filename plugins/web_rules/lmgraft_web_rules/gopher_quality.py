"""Filter ``gopher_quality``: the quality rules of Gopher (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import Verdict

from lmgraft_web_rules.groups import judged
from lmgraft_web_rules.plugin import GopherQualityConfig
from lmgraft_web_rules.vocabulary import Words, vocabulary

__all__ = ["GopherQuality"]


#: Words that are looked at first for stop words.
FEW = 64


class GopherQuality:
    """Row-wise. The first rule that is broken is the reason; in order:

    - ``gopher_short_doc``, ``gopher_long_doc``: fewer than 50 or more than 100,000 words. Words that are symbols
      throughout are not counted here, nor in the next two.
    - ``gopher_below_avg_threshold``, ``gopher_above_avg_threshold``: a mean word length below 3 or above 10.
    - ``gopher_too_many_hashes``, ``gopher_too_many_ellipsis``: more than one ``#``, or ellipsis, for every ten words.
    - ``gopher_too_many_bullets``: more than 90% of lines begin with a bullet.
    - ``gopher_too_many_end_ellipsis``: more than 30% of lines end with an ellipsis.
    - ``gopher_below_alpha_threshold``: fewer than 80% of words hold a letter.
    - ``gopher_enough_stop_words``: fewer than two of eight stop words (the name is datatrove's).

    Limits are on the side of keeping. A line is what ``str.splitlines`` gives; a bullet is ``•`` or ``-`` after white
    space. Not implemented: the paper's language detection and safe-search filter, which need models.
    """

    def __init__(self, config: GopherQualityConfig) -> None:
        self.config = config
        self._vocabulary = vocabulary(config.words)
        self._stop_words = frozenset(config.stop_words)

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return judged(batch, self._reasons)

    def _reasons(self, texts: Sequence[str]) -> list[str]:
        words = self._vocabulary.words(texts)
        counts = self._counts(words)
        starts, ends = words.starts.tolist(), words.ends.tolist()
        reasons = []
        for text, start, end, *row in zip(texts, starts, ends, *counts, strict=True):
            count, characters, letters = row
            reasons.append(
                self._length(count, characters)
                or (self._symbols(text, end - start) or self._lines(text) if end > start else "")
                or self._running(words, start, end, letters)
            )
        return reasons

    def _counts(self, words: Words) -> tuple[list[int], list[int], list[int]]:
        """For each text: words that are no symbols, their characters, and words with a letter."""
        own, ids = self._vocabulary, words.ids
        real = own.word[ids]
        found = (real, np.where(real, own.lengths[ids], 0), own.alpha[ids])
        number, characters, letters = (words.sums(values).tolist() for values in found)
        return number, characters, letters

    def _length(self, count: int, characters: int) -> str:
        config = self.config
        if config.min_words is not None and count < config.min_words:
            return "gopher_short_doc"
        if config.max_words is not None and count > config.max_words:
            return "gopher_long_doc"
        if not count:
            return ""
        mean = characters / count
        if config.min_mean_word_length is not None and mean < config.min_mean_word_length:
            return "gopher_below_avg_threshold"
        if config.max_mean_word_length is not None and mean > config.max_mean_word_length:
            return "gopher_above_avg_threshold"
        return ""

    def _symbols(self, text: str, words: int) -> str:
        most = self.config.max_symbol_ratio
        if most is None:
            return ""
        if text.count("#") / words > most:
            return "gopher_too_many_hashes"
        return "gopher_too_many_ellipsis" if _ellipses(text) / words > most else ""

    def _lines(self, text: str) -> str:
        bullets, ellipses = self.config.max_bullet_lines, self.config.max_ellipsis_lines
        lines = text.splitlines()
        # Most pages have fewer of these characters than lines: then there is nothing to look at line by line.
        if bullets is not None and (text.count("-") + text.count("•")) / len(lines) > bullets:
            found = sum(line.lstrip().startswith(("•", "-")) for line in lines)
            if found / len(lines) > bullets:
                return "gopher_too_many_bullets"
        if ellipses is not None and _ellipses(text) / len(lines) > ellipses:
            found = sum(line.rstrip().endswith(("...", "…")) for line in lines)
            if found / len(lines) > ellipses:
                return "gopher_too_many_end_ellipsis"
        return ""

    def _running(self, words: Words, start: int, end: int, letters: int) -> str:
        """Whether it is running text: words of letters, some of them stop words."""
        least, stop = self.config.min_alpha_words, self.config.min_stop_words
        if least is not None and end > start and letters / (end - start) < least:
            return "gopher_below_alpha_threshold"
        if stop is None:
            return ""
        for last in (start + FEW, end):  # the first words of most pages have them
            listed = self._vocabulary.listed(words.ids[start : min(last, end)].tolist())
            if len(self._stop_words.intersection(listed)) >= stop:
                return ""
        return "gopher_enough_stop_words"


def _ellipses(text: str) -> int:
    return text.count("...") + text.count("…")
