"""What is known of words: dictionary, variants that no dictionary lists, lists of misspellings, and corrections."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from lmgraft.errors import Problem, UserError
from symspellpy import SymSpell, Verbosity

__all__ = ["Lexicon"]

#: Words whose corrections are remembered.
REMEMBERED = 65_536
#: Endings and beginnings that make words of words; ``-eth`` and ``-est`` are those of older English.
SUFFIXES = ("s", "es", "d", "ed", "ing", "ly", "r", "er", "ers", "ness", "less", "like", "able", "ish", "eth", "est")
PREFIXES = (
    *("un", "re", "non", "pre", "sub", "over", "under", "out", "mis", "dis", "anti", "auto", "counter"),
    *("hyper", "inter", "micro", "multi", "semi", "super"),
)
#: How American spelling becomes British, the dictionary's; each is tried in each place.
AMERICAN = tuple(
    (re.compile(pattern), british)
    for pattern, british in (
        *((r"or", "our"), (r"er(s|ed|ing)?$", r"re\1"), (r"er(?=ed$|ing$)", "r"), (r"([iy])z", r"\1s")),
        *((r"l(ed|ing|ers?|ors?|ists?|ment|ments|ful|fully|ous|ously|ry)$", r"ll\1"), (r"p(ed|ing|ers?)$", r"pp\1")),
        *((r"ll(s|ment|ments|ful)?$", r"l\1"), (r"e", "ae"), (r"e", "oe"), (r"ens(e|es|eless)$", r"enc\1")),
        *((r"og(s|ed|ing|er|ers)?$", r"ogu\1"), (r"og(s?)$", r"ogue\1"), (r"rtifact", "rtefact"), (r"dgm", "dgem")),
        *((r"actic(e[sd]?|ing)$", r"actis\1"), (r"ol([dt])", r"oul\1"), (r"plow", "plough"), (r"gray", "grey")),
        *((r"cozy", "cosy"), (r"skeptic", "sceptic"), (r"sulf", "sulph"), (r"pajam", "pyjam"), (r"draft", "draught")),
        *((r"hiskey", "hisky"), (r"specialt(y|ies)$", r"specialit\1"), (r"ool(en|y)$", r"ooll\1")),
    )
)


class Lexicon:
    """Built from text files; nothing is ever unpickled. Takes 0.7 s and 80 MB for symspellpy's 82,765 words.

    :param dictionary: words, a count after each if there is one; None: symspellpy's English ones.
    :param words: further known words.
    :param misspellings: misspellings with what is meant.
    :raises UserError: a file has no word, or a line that is none of these.
    """

    def __init__(self, dictionary: Path | None, words: Path | None, misspellings: Path | None, least: int) -> None:
        self._speller = SymSpell(max_dictionary_edit_distance=1, prefix_length=7)
        counts = _counted(dictionary) if dictionary else _english()
        for word, count in counts.items():
            self._speller.create_dictionary_entry(word, count or 1)
        # A list without counts has no frequent words: all are as good.
        self._least = least if any(counts.values()) else 0
        self.known = {*self._speller.words, *(_counted(words) if words else ())}
        #: Misspelling -> what is meant, with counts of 0.
        self.listed = _misspellings(misspellings) if misspellings else {}
        self.known -= self.listed.keys()
        self._remembered: dict[str, tuple[tuple[str, int], ...]] = {}

    def variant(self, word: str) -> bool:
        """Whether a word that is not listed is one of a listed word's forms, or its American spelling."""
        if word in self.listed:
            return False
        if "'" in word:
            return word.endswith("'s") or word.partition("'")[0] in self.known
        return self._derived(word) or any(self._respelt(word, *rule) for rule in AMERICAN)

    def corrections(self, word: str) -> tuple[tuple[str, int], ...]:
        """What may be meant by a misspelt word, with counts, the most frequent first; nothing: not known to be one.

        From the list of misspellings, or words of the dictionary that are one insertion, deletion, substitution or
        transposition of neighbours away (Damerau 1964) and frequent enough.
        """
        found = self._remembered.get(word)
        if found is None:
            found = self.listed[word] if word in self.listed else self._near(word)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[word] = found
        return found

    def _near(self, word: str) -> tuple[tuple[str, int], ...]:
        rows = self._speller.lookup(word, Verbosity.ALL, max_edit_distance=1)
        near = [(row.term, row.count) for row in rows if row.count >= self._least and "'" not in row.term]
        return tuple(sorted(near, key=lambda pair: (-pair[1], pair[0])))

    def _derived(self, word: str) -> bool:
        words, least = self._speller.words, self._least
        if any(word.endswith(end) and words.get(word[: -len(end)], -1) >= least for end in SUFFIXES):
            return True
        return any(
            word.startswith(start) and len(word) >= len(start) + 4 and words.get(word[len(start) :], -1) >= least
            for start in PREFIXES
        )

    def _respelt(self, word: str, pattern: re.Pattern[str], british: str) -> bool:
        return any(
            word[: match.start()] + match.expand(british) + word[match.end() :] in self._speller.words
            for match in pattern.finditer(word)
        )


def _english() -> dict[str, int]:
    return _counts(
        files("symspellpy").joinpath("frequency_dictionary_en_82_765.txt").read_text("utf-8-sig").split("\n")
    )


def _counted(path: Path) -> dict[str, int]:
    found = _counts(lines(path))
    if not found:
        raise UserError(Problem(f"{path} holds no words", "it is read as one word a line", "write words into it"))
    return found


def _counts(rows: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        word, _, count = row.strip().partition(" ")
        if word and not word.startswith("#"):
            found[word.replace("\u2019", "'").lower()] = int(count) if count.strip().isdigit() else 0
    return found


def _misspellings(path: Path) -> dict[str, tuple[tuple[str, int], ...]]:
    meant: dict[str, dict[str, int]] = {}
    head = ""
    for number, row in enumerate(lines(path), start=1):
        row = row.strip().lower().replace("->", " ").replace("\u2019", "'")
        if not row or row.startswith("#"):
            continue
        if row.startswith("$"):
            head = row[1:]
            continue
        wrong, _, right = row.partition(" ")
        right = right.strip() or head
        if not right:
            fact = f"{path}, line {number}: {wrong!r} has no correction"
            raise UserError(
                Problem(fact, "a line is `recieve receive`, or follows `$receive`", f"write `{wrong} CORRECTION`")
            )
        for word in right.split(","):
            if word.strip() != wrong:
                meant.setdefault(wrong, {})[word.strip().replace("_", " ")] = 0
    if not meant:
        fact, cause = f"{path} holds no misspellings", "it is read as `recieve receive`, one a line"
        raise UserError(Problem(fact, cause, "write some into it, or take the setting away"))
    return {wrong: tuple(right.items()) for wrong, right in meant.items()}


def lines(path: Path) -> list[str]:
    """The lines of a text file of words. Raises :class:`UserError` where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror or str(error) if isinstance(error, OSError) else f"it is not UTF-8: {error.reason}"
        raise UserError(Problem(f"{path} cannot be read", cause, "name a text file of words")) from error
