"""Cuts long text at places that no token crosses, so that a document of any length is encoded in bounded memory.

A cut between two characters a and b is sound where the ids of what stands before it and of what stands behind it are
together the ids of the whole. Whether it is depends on how the tokenizer splits text, so :func:`cutter` looks at
``tokenizer.json`` and gives the rule for its kind, or None where none is known and text stays whole.

**Byte-level with the pattern of GPT-2, LLaMA 3 or Qwen 2** (no normalizer, or NFC). Their alternatives are contractions
(``'s``), ``x?\\p{L}+`` with x no letter and no digit, runs of ``\\p{N}`` (one, up to three, or all), runs of
``[^\\s\\p{L}\\p{N}]`` with a space before or line feeds behind, and white space. Go through the pairs that may stand
side by side *within* a match: (', letter), (letter, letter), (x, letter), (digit, digit), (space, digit), (space,
other), (other, other), (other or line feed, line feed), (white, white). A letter followed by anything but a letter is
not among them, nor a digit followed by anything but a digit, nor anything but white space followed by a space. So a
match always ends there. What stands before the cut is matched as in the whole: matches in it end at a or earlier, a run
that reaches a stops there in both, and the one lookahead, ``\\s+(?!\\S)``, follows white space, which a is not. What
stands behind is too, since nothing looks back. NFC composes no character with a base that follows or with the
characters taken for b, none of which is a mark.

**Words at white space** (``BertPreTokenizer``, ``Whitespace``, ``WhitespaceSplit``): white space ends every word and is
dropped, and normalizers work on a character and its marks. The cut lies before white space; for BERT's also before
punctuation, which is a word of its own.

**Metaspace and SentencePiece.** The cut lies before a single space between two letters or digits, which becomes the
``▁`` that begins a word. Where the words are split apart (Metaspace with ``split``), that suffices, for any model: no
further ``▁`` is put before a piece that begins with one. Where they are not, BPE may in principle merge across: it
never does if no merge puts something else than ``▁`` before ``▁``, since merges on the two sides of such a border touch
other symbols; that is looked up. Where the normalizer itself prepends the ``▁`` (LLaMA 2), it would come on top of the
space's: the space is left out, and the prepended one stands for it. Where nothing is prepended and nothing else is
normalised, BPE is also cut between any two characters that are pieces by themselves and that no merge joins, ``x`` in
front ending with the one and ``y`` behind beginning with the other: Chinese text has no spaces. Unigram over text that
is not split stays whole: the best path is the same, but its sums of floating-point numbers are not.

**The words of the part unigram** (its pattern is SentencePiece's idea of words): the pairs within a match are (space,
anything but white space), (letter or mark, letter or mark), (digit, digit), (other, other) and white space, so the cuts
are those of the byte-level patterns.

Letters below are those of the scripts that most text is written in; none changes class with the version of Unicode, and
none combines with its neighbours. Added tokens that are not special are found anywhere: no cut lies near one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["LONGEST", "LONGEST_WHOLE", "PIECE", "Cutter", "cutter", "pieces"]

#: Characters in one piece of a long document. The library needs about 140 bytes of memory a character.
PIECE = 1 << 16

#: UTF-8 bytes without a place to cut, in a document that is cut: a word of this length takes a second and 200 MB.
LONGEST = 1 << 20

#: Bytes (or characters) that are encoded in one piece at all, where no place to cut is known, or only spaces are one.
#: A tokenizer needs up to 140 bytes of memory for a character of them.
LONGEST_WHOLE = 1 << 24

LETTERS = (
    "A-Za-zÀ-ÖØ-öø-ıĴ-ľŁ-ňŊ-žΆΈ-ΊΌΎ-ΡΣ-ώЁ-ЌЎ-яё-ќўџ"
    "\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u0905-\u0939\u0e01-\u0e30\u3041-\u3094\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
)
DIGITS = "0-9"
ASCII_MARKS = "!-/:-@\\[-`{-~"
WHITE = " \\t\\n\\r"
#: Neither letters, digits nor marks that combine.
BREAKS = f"{WHITE}{ASCII_MARKS}«»\u2010-\u2027、-〃〈-】！-／：-？"
#: White space and what BERT takes for punctuation: all of ASCII's marks, and Unicode's category P.
BERT_BREAKS = f"{WHITE}{ASCII_MARKS}«»\u2010-\u2027、-〃〈-】！，．：；？（）"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}"
#: The part unigram's, with numbers whole and digit by digit.
WORDS = tuple(
    rf"\n+| +(?= )| ?[{_CJK}]+| ?[[\p{{L}}\p{{M}}]&&[^{_CJK}]]+|{number}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+|[^\S \n]+|\s"
    for number in (r" ?\p{N}+", r"\p{N}")
)

_SPACE = f"(?<=[{LETTERS}{DIGITS}{ASCII_MARKS}]) "
_PATTERN = re.compile(f"(?<=[{LETTERS}])[{BREAKS}{DIGITS}]|(?<=[{DIGITS}])[{BREAKS}{LETTERS}]|{_SPACE}")
_BERT = re.compile(f"(?<=[{LETTERS}{DIGITS}])[{BERT_BREAKS}]|{_SPACE}")
_WHITE = re.compile(f"(?<=[{LETTERS}{DIGITS}{ASCII_MARKS}])[{WHITE}]")
_PREFIXED = re.compile(f"(?<=[{LETTERS}{DIGITS}]) ")
_META = re.compile(f"(?<=[{LETTERS}{DIGITS}]) (?=[{LETTERS}{DIGITS}])")
_SAMPLE = re.compile(r"(?<=\S)[ \n]")

#: Normalizers that look at no more than a character and the marks behind it.
_LOCAL = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Precompiled", "Nmt"})

#: Every word is a stretch of its own; BERT's are parted further.
_SPACED = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")


@dataclass(frozen=True, slots=True)
class Cutter:
    """A rule of cutting, for one tokenizer."""

    place: re.Pattern[str]
    """Matches the character before which a cut lies."""
    dropped: int = 0
    """1 where that character, a space, is left out: what the tokenizer prepends stands for it."""
    avoided: tuple[str, ...] = ()
    """Added tokens; no cut lies within or beside one."""
    longest: int = LONGEST
    """UTF-8 bytes without a place to cut that are refused."""
    joined: frozenset[str] = frozenset()
    """Two characters each that some merge joins: no cut lies between them."""
    known: frozenset[str] = frozenset()
    """The characters between which a cut may lie; empty where any will do."""

    def find(self, text: str, start: int, stop: int | None = None) -> int | None:
        """The first place from ``start`` on (and before ``stop``) at which ``text`` may be cut."""
        stop = len(text) if stop is None else min(stop, len(text))
        while (found := self.place.search(text, start, stop)) is not None:
            place = found.start()
            if self._is_apart(text, place) and not any(self._near(text, place, token) for token in self.avoided):
                return place
            start = place + 1
        return None

    def pieces(self, text: str, size: int = PIECE) -> Iterator[str]:
        """Cuts ``text`` into pieces of ``size`` characters or more; text without a place to cut stays in one."""
        start = 0
        while len(text) - start > size:
            place = self.find(text, start + size)
            if place is None:
                break
            yield text[start:place]
            start = place + self.dropped
        yield text[start:]

    def _is_apart(self, text: str, place: int) -> bool:
        if not self.known:
            return True
        pair = text[place - 1 : place + 1].replace(" ", "▁")
        return pair not in self.joined and self.known.issuperset(pair)

    @staticmethod
    def _near(text: str, place: int, token: str) -> bool:
        return text.find(token, max(0, place - len(token)), place + 1 + len(token)) >= 0


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cuts ``text`` for sampling, whatever the tokenizer: before a space or line feed that follows something else.

    Joined they are ``text`` again. Text without such a place stays in one piece.
    """
    start = 0
    while len(text) - start > size:
        found = _SAMPLE.search(text, start + size)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def cutter(content: dict[str, Any]) -> Cutter | None:
    """The rule for this ``tokenizer.json``, or None where no sound one is known."""
    normalizers = _unfolded(content.get("normalizer"), "normalizers")
    splitters = _of_texts(_unfolded(content.get("pre_tokenizer"), "pretokenizers"))
    found = _of_pattern(normalizers, splitters) or _of_words(normalizers, splitters)
    found = found or _of_metaspace(normalizers, splitters, content.get("model") or {}) or _of_unigram(content)
    added = [token for token in content.get("added_tokens") or [] if not token.get("special")]
    if found is None or not added:
        return found
    if any(token.get(key) for token in added for key in ("lstrip", "rstrip", "single_word")):
        return None
    if normalizers and any(token.get("normalized", True) for token in added):
        return None
    return replace(found, avoided=tuple(token["content"] for token in added))


def _of_texts(splitters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that split words, which white space has parted before: they see a word and never two."""
    first = splitters[0] if splitters else {}
    parts = first.get("type") in (*_SPACED, "Metaspace") and first.get("split", True) is True
    return splitters[:1] if parts and all(step.get("type") == "Split" for step in splitters[1:]) else splitters


def _of_pattern(normalizers: list[dict[str, Any]], splitters: list[dict[str, Any]]) -> Cutter | None:
    """Byte-level, by a pattern that is known."""
    if not splitters or any(normalizer.get("type") != "NFC" for normalizer in normalizers):
        return None
    *before, last = splitters
    if last.get("type") != "ByteLevel" or len(before) > 1:
        return None
    by_itself = last.get("use_regex", True) is True
    if before and (by_itself or not _is_split_by(before[0], (GPT2, LLAMA3, QWEN2))):
        return None
    if not before and not by_itself:
        return None
    # A space is put before every piece that does not begin with one.
    return Cutter(_PREFIXED if last.get("add_prefix_space", True) else _PATTERN)


def _is_split_by(splitter: dict[str, Any], patterns: tuple[str, ...]) -> bool:
    return (
        splitter.get("type") == "Split"
        and (splitter.get("pattern") or {}).get("Regex") in patterns
        and splitter.get("behavior") == "Isolated"
        and not splitter.get("invert")
    )


def _of_words(normalizers: list[dict[str, Any]], splitters: list[dict[str, Any]]) -> Cutter | None:
    """Words that white space ends."""
    if len(splitters) != 1 or any(normalizer.get("type") not in {*_LOCAL, "Strip"} for normalizer in normalizers):
        return None
    kind = splitters[0].get("type")
    if kind == "BertPreTokenizer":
        return Cutter(_BERT)
    return Cutter(_WHITE) if kind in _SPACED else None


def _of_metaspace(
    normalizers: list[dict[str, Any]], splitters: list[dict[str, Any]], model: dict[str, Any]
) -> Cutter | None:
    """Words that begin with ``▁``, split apart or not."""
    kinds = [splitter.get("type") for splitter in splitters]
    if kinds not in (["Metaspace"], []) or not all(map(_keeps_spaces, normalizers)):
        return None
    if kinds and splitters[0].get("replacement", "▁") != "▁":
        return None
    if not kinds and not any(normalizer.get("content") == "▁" for normalizer in normalizers):
        return None  # spaces stay spaces: there is no ``▁`` that begins a word
    is_split = bool(kinds) and splitters[0].get("split", True) is True
    if not is_split and not _merges_no_words(model):
        return None
    prepends = any(normalizer.get("type") == "Prepend" for normalizer in normalizers)
    if is_split or kinds or prepends or any(normalizer.get("type") != "Replace" for normalizer in normalizers):
        return Cutter(_META, int(prepends), longest=LONGEST_WHOLE)
    joined = frozenset(left[-1] + right[0] for left, right in _merges(model))
    known = frozenset(piece for piece in model["vocab"] if len(piece) == 1)
    return Cutter(_PATTERN, longest=LONGEST_WHOLE, joined=joined, known=known)


def _of_unigram(content: dict[str, Any]) -> Cutter | None:
    """The part unigram's words, and nothing put before them."""
    splitter = content.get("pre_tokenizer") or {}
    steps = splitter.get("pretokenizers") or []
    if content.get("normalizer") or [step.get("type") for step in steps] != ["Split", "Metaspace"]:
        return None
    split, space = steps
    is_known = _is_split_by(split, WORDS) and space.get("prepend_scheme") == "never" and space.get("split") is False
    return Cutter(_PATTERN) if is_known else None


def _keeps_spaces(normalizer: dict[str, Any]) -> bool:
    kind = normalizer.get("type")
    if kind == "Strip":
        return not normalizer.get("strip_left", True)
    if kind == "Prepend":
        return normalizer.get("prepend") == "▁"
    if kind == "Replace":
        pattern = normalizer.get("pattern") or {}
        known = pattern.get("String") == " " or pattern.get("Regex") == " {2,}"
        return known and normalizer.get("content") in ("▁", " ")
    return kind in _LOCAL - {"BertNormalizer"}  # which puts spaces around Chinese characters


def _merges_no_words(model: dict[str, Any]) -> bool:
    """Is this BPE in which no merge puts something else than ``▁`` before ``▁``?"""
    if model.get("type", "BPE") != "BPE" or model.get("ignore_merges") or model.get("dropout"):
        return False
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix") or "▁" not in model.get("vocab", {}):
        return False
    return not any(right[:1] == "▁" and left[-1:] != "▁" for left, right in _merges(model))


def _merges(model: dict[str, Any]) -> Iterator[list[str]]:
    for merge in model.get("merges") or []:
        yield merge.split(" ", 1) if isinstance(merge, str) else merge


def _unfolded(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, sequences unfolded."""
    if not node:
        return []
    if node.get("type") == "Sequence":
        return [step for inner in node.get(key) or [] for step in _unfolded(inner, key)]
    return [node]
