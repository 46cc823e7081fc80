"""Filter ``spelling``: reports misspelt English words; corrects them only when told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_clean_text.lexicon import Lexicon, lines
from lmgraft_clean_text.plugin import SpellingConfig

__all__ = ["Spelling"]

#: Lower-case words that stand by themselves: no part of an address, path, option, name in code, formula or compound.
WORD = re.compile(
    r"(?<![\w@#./\\&=?%~$<{'\u2019+*^|:-])[a-z]+(?:['\u2019][a-z]+)?(?![\w@/\\=%&}(\[>+*^|'\u2019-]|[.:][\w/])"
)
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|^(?: {4}|\t)[^\n]*", re.DOTALL | re.MULTILINE)
#: A word that a document writes more often than this is a term, and no slip.
TERM = 2
#: Words of which a share says something.
ENOUGH = 20
ROLES = ("dictionary", "words", "misspellings")


class Spelling:
    """Row-wise, of documents with ``text``; others stay as they are. Nothing is dropped.

    A word is *unknown* where it has ``min_letters`` letters, the dictionary does not list it, and it is neither made of
    a listed word with a common ending or beginning nor an American spelling of one. It is *misspelt* where it is on the
    list of misspellings, or unknown, with a frequent word at Damerau-Levenshtein distance 1 (Damerau 1964,
    doi:10.1145/363958.363994; found with SymSpell's index of deletions), and the document writes it twice at most.

    Counts: ``words`` that were looked at, those ``unknown`` and ``misspelt``, ``corrected`` and ``documents`` with
    misspelt words; ``not_english`` for documents with more than ``max_unknown`` of unknown words. The note shows the
    first few: ``recieve -> receive``, with ``?`` where several words may be meant.

    With ``correct`` a misspelt word is replaced where exactly one word may be meant (reason ``corrected``).

    Not looked at: words with capitals (names, and what begins a sentence), digits, underscores, hyphens or letters
    beyond a to z; code in backquotes or indented by four blanks or a tab; parts of addresses and paths. Not found:
    wrong words that are words (*their* for *there*) and slips at a larger distance that no list names. No context is
    used; symspellpy's bigrams and word segmentation are not.
    """

    def __init__(self, config: SpellingConfig) -> None:
        self.config = config
        self._files = {role: Path(path) for role in ROLES if (path := getattr(config, role))}
        self._lexicon: Lexicon | None = None

    def inputs(self) -> Mapping[str, str]:
        """The files that the settings name, if any: their contents become part of what is cached."""
        return {role: str(path) for role, path in self._files.items()}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        """Copies the lists: they are text and no tables of rows. Raises :class:`UserError` where one is not."""
        for role, path in self._files.items():
            copied = workdir / f"{role}.txt"
            if not copied.exists():
                copied.write_text("\n".join(lines(path)), encoding="utf-8")
            self._files[role] = copied
        self._lexicon = self._built() if self._files else None

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        if self._lexicon is None:
            self._lexicon = self._built()
        lexicon = self._lexicon
        return [KEEP if document.text is None else self._judge(document.text, lexicon) for document in batch]

    def _built(self) -> Lexicon:
        if not self._files:
            return _english(self.config.min_frequency)
        dictionary, words, misspellings = (self._files.get(role) for role in ROLES)
        return Lexicon(dictionary, words, misspellings, self.config.min_frequency)

    def _judge(self, text: str, lexicon: Lexicon) -> Verdict:
        prose = CODE.sub(_hidden, text) if "`" in text or "\t" in text or "    " in text else text
        found = WORD.findall(prose)
        if not found:
            return KEEP
        least, listed = self.config.min_letters, lexicon.listed
        unlisted = [word for word in set(found) - lexicon.known if len(word) >= least or word in listed]
        if not unlisted:
            return Verdict(counts={"words": len(found)})
        plain = {word: word.replace("\u2019", "'") for word in unlisted}
        unknown = {word for word in unlisted if plain[word] not in lexicon.known and not lexicon.variant(plain[word])}
        times = Counter(word for word in found if word in unknown)
        if len(found) >= ENOUGH and times.total() > self.config.max_unknown * len(found):
            return Verdict(counts={"words": len(found), "unknown": times.total(), "not_english": 1})
        meant = {word: lexicon.corrections(word) for word, n in times.items() if n <= TERM}
        return self._verdict(text, prose, {"words": len(found), "unknown": times.total()}, times, meant)

    def _verdict(
        self,
        text: str,
        prose: str,
        counts: dict[str, int],
        times: Mapping[str, int],
        meant: Mapping[str, tuple[tuple[str, int], ...]],
    ) -> Verdict:
        counts = {name: number for name, number in counts.items() if number}
        # `times` has the words in the order of the text.
        wrong = [word for word in times if meant.get(word)]
        if not wrong:
            return Verdict(counts=counts)
        counts |= {"misspelt": sum(times[word] for word in wrong), "documents": 1}
        only = {word: best for word in wrong if (best := self._only(meant[word]))}
        note = ", ".join(
            f"{word} -> {only.get(word) or meant[word][0][0] + '?'}" for word in wrong[: self.config.shown]
        )
        if not self.config.correct or not only:
            return Verdict(counts=counts, note=note)
        counts["corrected"] = sum(times[word] for word in only)
        spans = ((match.start(), match[0]) for match in WORD.finditer(prose))
        return Verdict(text=_replaced(text, spans, only), reason="corrected", counts=counts, note=note)

    def _only(self, candidates: tuple[tuple[str, int], ...]) -> str:
        """The one word that may be meant, or nothing."""
        (word, count), *others = candidates
        clear = self.config.dominance and all(count >= self.config.dominance * max(other, 1) for _, other in others)
        return word if not others or clear else ""


def _replaced(text: str, spans: Iterator[tuple[int, str]], meant: Mapping[str, str]) -> str:
    parts, end = [], 0
    for start, word in spans:
        if word in meant:
            parts += [text[end:start], meant[word]]
            end = start + len(word)
    return "".join([*parts, text[end:]])


def _hidden(match: re.Match[str]) -> str:
    """As many characters that are no words: places in the text stay the same."""
    return "\0" * len(match[0])


@lru_cache(maxsize=2)
def _english(least: int) -> Lexicon:
    return Lexicon(None, None, None, least)
