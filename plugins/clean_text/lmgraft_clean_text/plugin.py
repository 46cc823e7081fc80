"""The light half of ``clean_text``: the settings of ``unicode``, ``emoji`` and ``spelling``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["EmojiConfig", "EmojiTo", "Form", "SpellingConfig", "UnicodeConfig", "lmgraft_filter"]

#: The languages in which the library ``emoji`` names emoji.
LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")


class Form(Enum):
    NFC = "NFC"
    NFKC = "NFKC"
    none = "none"


class EmojiTo(Enum):
    name = "name"
    remove = "remove"
    keep = "keep"


@dataclass
class UnicodeConfig(ComponentConfig):
    """Repairs encodings, takes out what cannot be seen, and writes equal text in equal code points."""

    form: Form = Form.NFC
    """The normal form of Unicode (UAX 15): NFC; NFKC, which also folds ligatures, widths and superscripts; or none."""
    fix: bool = True
    """Undo text that was decoded in a wrong encoding (``schÃ¶n``), with ftfy. Nothing else of ftfy is used."""
    lines: bool = True
    """Write each end of a line (CR LF, CR, vertical tab, form feed, NEL, U+2028, U+2029) as one line feed."""
    controls: bool = True
    """Take out control characters (C0 and C1 but tab and line feed) and noncharacters."""
    invisible: bool = True
    """Take out byte order marks, soft hyphens, word joiners, zero-width spaces, and joiners where they join nothing."""
    bidi: bool = False
    """Take out the marks of writing direction, too (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069)."""
    spaces: bool = False
    """Write each run of blanks as one space, none at the ends of lines, and at most one empty line between others.
    Indentation is lost: not for code."""

    def check(self) -> Iterator[Problem | str]:
        if self.fix and find_spec("ftfy") is None:
            cause = "encodings are repaired with ftfy, which is not installed"
            yield Problem("unicode.fix is true", cause, "pip install 'lmgraft[text]', or set fix: false")


@dataclass
class EmojiConfig(ComponentConfig):
    """Writes emoji as words, takes them out, or only counts them."""

    to: EmojiTo = EmojiTo.name
    """``name`` writes ``:thumbs_up:``, ``remove`` takes them out, ``keep`` counts them."""
    language: str = "en"
    """Of the names: ar, de, en, es, fa, fr, id, it, ja, ko, pt, ru, tr or zh. What has no name there keeps the
    English one."""
    delimiters: list[str] = field(default_factory=lambda: [":", ":"])
    """What stands before and after a name."""
    text_style: bool = False
    """Take also characters that are shown as plain text unless a selector follows (``©``, ``↔``, ``☎``) as emoji."""

    def check(self) -> Iterator[str]:
        if self.language not in LANGUAGES:
            yield f"language is {self.language!r}; names are known in {', '.join(LANGUAGES)}"
        if len(self.delimiters) != 2:
            yield f"delimiters holds {len(self.delimiters)} strings; it takes two, before and after a name"


@dataclass
class SpellingConfig(ComponentConfig):
    """Reports words that are misspelt; corrects them only when told.

    What the files hold is part of the key; where they lie is not.
    """

    correct: bool = False
    """Write the word that was meant, where there is exactly one. Otherwise misspelt words are only counted."""
    dictionary: str | None = execution(None)
    """Text file of known words, one a line, a count after it if there is one (``the 23135851162``); null takes
    symspellpy's of English. Lower case."""
    words: str | None = execution(None)
    """Text file of words, one a line, that are known beside those of the dictionary: terms of the corpus."""
    misspellings: str | None = execution(None)
    """Text file of misspellings: ``recieve receive`` or ``recieve->receive`` on a line, or lists in which ``$receive``
    goes before its misspellings. They are found, and corrected to what is named there, before the dictionary is asked;
    what has two corrections is only reported."""
    min_letters: int = 5
    """Shorter words are known words: too many are names, codes or words of other languages."""
    min_frequency: int = 100_000
    """A correction is a word that the dictionary counts so often at least (symspellpy's counts reach from 12,711 to
    23 billion; the median is 230,000). Lists without counts know no frequency: each of their words is a correction."""
    dominance: float = 0.0
    """Of several corrections the most frequent counts as the only one where it is so many times as frequent as the
    next; 0 asks for exactly one. 20 corrects more, and more of it wrongly."""
    max_unknown: float = 0.25
    """A document with a larger share of unknown words is no English, or no prose, and is let be."""
    shown: int = 3
    """Misspellings in the note of a document."""

    def check(self) -> Iterator[str]:
        if self.min_letters < 1:
            yield f"min_letters is {self.min_letters}; it must be at least 1"
        for name in ("min_frequency", "shown"):
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}; it must be at least 0"
        if self.dominance and self.dominance < 1:
            yield f"dominance is {self.dominance:g}; it must be at least 1, or 0 for none"
        if not 0 < self.max_unknown <= 1:
            yield f"max_unknown is {self.max_unknown:g}; it is a share of the words, above 0 and up to 1"

    def __post_init__(self) -> None:
        # As typed on the command line, "" means none.
        self.dictionary, self.words, self.misspellings = (
            path or None for path in (self.dictionary, self.words, self.misspellings)
        )


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="unicode",
            target="lmgraft_clean_text.unicode:Unicode",
            config=UnicodeConfig,
            summary="Repairs mojibake, removes control characters, writes NFC",
        ),
        Component(
            name="emoji",
            target="lmgraft_clean_text.emoji:Emoji",
            config=EmojiConfig,
            summary="Writes emoji as their names, removes them, or counts them",
            requires=("emoji>=2.8",),
        ),
        Component(
            name="spelling",
            target="lmgraft_clean_text.spelling:Spelling",
            config=SpellingConfig,
            summary="Reports misspelt English words; corrects them when told",
            requires=("symspellpy>=6.7",),
        ),
    ]
