"""Filter ``c4``: the rules of the Colossal Clean Crawled Corpus (Raffel et al. 2020, arXiv:1910.10683, section 2.2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_web_rules.plugin import C4Config
from lmgraft_web_rules.vocabulary import vocabulary

__all__ = ["C4"]

CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
ENDS = (".", "?", "!", '"', "'")


class C4:
    """Row-wise. Lines (``str.splitlines``) are judged one by one, white space at their ends gone; what is left of a
    page, joined by line feeds, is its new text (reason ``lines``). Lines that go are counted, in this order:

    - ``too_long_word``: a word of more than 1000 characters (the code's rule, not the paper's).
    - ``no_terminal_punct``: no full stop, question mark, exclamation mark or quotation mark at the end.
    - ``too_few_words``: fewer than 3 words.
    - ``javascript``: the line speaks of JavaScript.
    - ``policy``: it speaks of cookies, of privacy or of terms (the code's rule).

    Before the second of these ``citation`` marks such as ``[1]`` are cut out, and counted (the code's rule).
    Reasons to drop a page:

    - ``lorem_ipsum``, ``curly_bracket``: a line has it that is not gone by then (the first after ``too_few_words``,
      the second after ``javascript``).
    - ``too_few_sentences``: fewer than 5 sentences in the lines that stay.
    - ``bad_words``: the page as it came holds a word of the setting ``bad_words``, which is empty by default: the
      paper's list is not part of lmgraft.

    Not implemented: the paper's removal of spans of three sentences that come again in the corpus, and its language
    filter (see ``exact_substring`` and ``language``).
    """

    def __init__(self, config: C4Config) -> None:
        self.config = config
        self._vocabulary = vocabulary(config.words)
        self._bad = _phrases(config.bad_words)

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [KEEP if document.text is None else self._judge(document.text) for document in batch]

    def _judge(self, text: str) -> Verdict:
        gone: Counter[str] = Counter()
        reason, kept = self._kept(text, gone)
        if not reason and self._bad is not None and self._bad.search(text.lower()):
            reason = "bad_words"
        if reason:
            return Verdict(keep=False, reason=reason, counts=dict(gone))
        left = "\n".join(kept).strip()
        if left == text and not gone:
            return KEEP
        return Verdict(text=left, reason="lines", counts=dict(gone))

    def _kept(self, text: str, gone: Counter[str]) -> tuple[str, list[str]]:
        """The lines that stay, or why the page goes; what goes of it is counted in ``gone``."""
        config = self.config
        least, longest, punctuated = config.min_words_per_line or 0, config.max_word_length, config.terminal_punctuation
        cited = config.citations and "[" in text
        suspect = self._suspect(text, cited)
        kept: list[str] = []
        sentences, enough = 0, config.min_sentences or 0
        for line in map(str.strip, text.splitlines()):
            words = len(line.split(None, least))
            if longest is not None and len(line) > longest and any(len(word) > longest for word in line.split()):
                gone["too_long_word"] += 1
                continue
            if cited and "[" in line:
                line, marks = CITATION.subn("", line)
                if marks:
                    gone["citation"] += marks
            if punctuated and (not line.endswith(ENDS) or line.endswith("...")):
                gone["no_terminal_punct"] += 1
                continue
            if words < least:
                gone["too_few_words"] += 1
                continue
            if suspect:
                page, why = self._phrased(line)
                if page:
                    return why, []
                if why:
                    gone[why] += 1
                    continue
            if sentences < enough:
                sentences += self._vocabulary.sentences(line)
            kept.append(line)
        return ("too_few_sentences" if sentences < enough else ""), kept

    def _suspect(self, text: str, cited: bool) -> bool:
        """Whether a line may hold a phrase that is looked for: most pages have none. A mark cut out may make one."""
        config = self.config
        low = text.lower()
        return (
            (cited and CITATION.search(text) is not None)
            or (config.lorem_ipsum and "lorem ipsum" in low)
            or (config.javascript and "javascript" in low)
            or (config.curly_bracket and "{" in text)
            or any(phrase in low for phrase in config.policy)
        )

    def _phrased(self, line: str) -> tuple[bool, str]:
        """Whether the whole page goes for this line, and why it or the line goes."""
        config, low = self.config, line.lower()
        if config.lorem_ipsum and "lorem ipsum" in low:
            return True, "lorem_ipsum"
        if config.javascript and "javascript" in low:
            return False, "javascript"
        if config.curly_bracket and "{" in line:
            return True, "curly_bracket"
        return False, "policy" if any(phrase in low for phrase in config.policy) else ""


def _phrases(words: Iterable[str]) -> re.Pattern[str] | None:
    """Any of the words or phrases as whole words; None where there are none."""
    found = sorted({word.strip().lower() for word in words})
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, found))})(?!\w)") if found else None
