"""Words of a list in a text, disguised ones among them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from lmgraft.errors import Problem, UserError

__all__ = ["WordList", "listed"]

TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
#: A letter beside what may stand for one, or three of a letter in a row: without any of it nothing is disguised.
SUSPICIOUS = re.compile(
    r"[^\W\d_][0-9@$!|+*#]|[0-9@$!|+*#][^\W\d_]|([^\W\d_])\1\1|\b[^\W\d_]([ .*_-])[^\W\d_]\2[^\W\d_]\b"
)
#: What blanks and plain punctuation separate, signs inside.
CHUNK = re.compile(r"[^\s\"',;:?()<>/\\\[\]{}=~`._-]+")
POSSESSIVES = ("'s", "\u2019s")
#: Characters of a disguised word at most.
LONGEST = 40
SIGN = re.compile(r"[0-9@$!|+*#]")
SPACED = re.compile(r"(?<![\w])[^\W\d_](?:([ .*_-])[^\W\d_])(?:\1[^\W\d_])+(?!\w)")
REPEATED = re.compile(r"([^\W\d_])\1{2,}")
#: What signs stand for; ``1`` and ``|`` for either of two letters.
SIGNS = tuple(str.maketrans("0123456789@$!|+", letters) for letters in ("oizeasgtbgasiit", "olzeasgtbgasilt"))


class WordList:
    """Finds words and phrases, in any case; one that ends in ``*`` stands for all words that begin so."""

    def __init__(self, words: Iterable[str], disguised: bool = True) -> None:
        whole = {" ".join(TOKEN.findall(word.lower())) + ("*" if word.endswith("*") else "") for word in words}
        single = {word for word in whole if " " not in word}
        self._words = {word for word in single if not word.endswith("*")}
        self._starts = {word[:-1] for word in single if len(word) > 1 and word.endswith("*")}
        self._lengths = sorted({len(start) for start in self._starts})
        # The shortest of the beginnings that a word may have: few words pass that.
        self._shortest = self._lengths[0] if self._lengths else 0
        self._heads = {start[: self._shortest] for start in self._starts}
        phrases = sorted(word.rstrip("*") for word in whole if " " in word)
        self._phrases = re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b") if phrases else None
        self._first = {phrase.partition(" ")[0] for phrase in phrases}
        self._disguised = disguised

    def found(self, text: str) -> tuple[int, int]:
        """(words and phrases of the list that the text holds, words of the text)"""
        lower = text.lower()
        tokens = TOKEN.findall(lower)
        times, heads, shortest = Counter(tokens), self._heads, self._shortest
        listed = self._words.intersection(times)
        listed.update(token for token in times if token[:shortest] in heads and self._has(token))
        if "'" in lower or "\u2019" in lower:
            listed.update(token for token in times if token[-2:] in POSSESSIVES and self._has(token))
        hits = sum(times[token] for token in listed)
        if self._phrases is not None and not self._first.isdisjoint(times):
            hits += len(self._phrases.findall(" ".join(tokens)))
        if self._disguised and SUSPICIOUS.search(lower):
            hits += sum(1 for _ in self._undisguised(lower))
        return hits, len(tokens)

    def _has(self, token: str) -> bool:
        if token in self._words or (token[-2:] in POSSESSIVES and token[:-2] in self._words):
            return True
        return token[: self._shortest] in self._heads and any(token[:n] in self._starts for n in self._lengths)

    def _undisguised(self, lower: str) -> Iterator[str]:
        for chunk in CHUNK.findall(lower):
            if not chunk.isalpha() and SIGN.search(chunk) and self._leet(chunk.rstrip("!|+")):
                yield chunk
        for match in SPACED.finditer(lower):
            word = match[0].replace(match[1], "")
            if len(word) > 3 and self._has(word):
                yield match[0]
        for token in TOKEN.findall(lower) if REPEATED.search(lower) else ():
            once, twice = (REPEATED.sub(times, token) for times in (r"\1", r"\1\1"))
            if once != token and not self._has(token) and (self._has(once) or self._has(twice)):
                yield token

    def _leet(self, token: str) -> bool:
        token = token.strip("*#")
        letters = sum(map(str.isalpha, token))
        if "*" in token or "#" in token:
            # A mask shows the first letter and another one: f**k, but not 5*x.
            return len(token) > 3 and letters > 1 and token[0].isalpha() and self._masked(token)
        if letters + (not any(map(str.isdigit, token))) < 2 or not 3 <= len(token) <= LONGEST or not SIGN.search(token):
            return False
        return any(self._has(token.translate(signs)) for signs in SIGNS)

    def _masked(self, token: str) -> bool:
        pattern = re.compile("".join("." if letter in "*#" else re.escape(letter) for letter in token))
        return any(len(word) == len(token) and pattern.fullmatch(word) for word in self._words | self._starts)


def listed(path: Path, column: str, severity: str, least: float) -> list[str]:
    """The words of a text file (one a line, ``#`` begins a remark) or of a CSV file's ``column``.

    :raises UserError: it cannot be read, lacks the column, or holds no word.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = list(_of_csv(path, csv.DictReader(file), column, severity, least)) if _is_csv(path) else list(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise UserError(Problem(f"toxicity.words: {path} cannot be read", cause, "name a text or CSV file")) from error
    found = [word.strip() for word in found if word.strip() and not word.startswith("#")]
    if not found:
        cause = "it is read as one word a line, or as CSV with a column of words"
        remedy = "write words into it, lower toxicity.min_severity, or leave toxicity.words out for the built-in list"
        raise UserError(Problem(f"toxicity.words: {path} holds no words", cause, remedy))
    return found


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _of_csv(path: Path, rows: csv.DictReader[str], column: str, severity: str, least: float) -> Iterator[str]:
    if column not in (rows.fieldnames or ()):
        cause = f"its columns are {', '.join(rows.fieldnames or ()) or 'none'}"
        raise UserError(Problem(f"toxicity.words: {path} has no column {column!r}", cause, "set toxicity.column"))
    for number, row in enumerate(rows, start=2):
        try:
            bad = float(row.get(severity) or "inf")
        except ValueError as error:
            fact = f"toxicity.words: {path}, line {number}: {severity} is {row[severity]!r}"
            raise UserError(Problem(fact, "it is a number", "mend it, or set toxicity.severity")) from error
        if bad >= least:
            yield row[column] or ""
