"""Holds the four to the filters' contract, with pages that break every rule."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestC4", "TestC4WithoutPunctuation", "TestFineweb", "TestGopherQuality", "TestGopherRepetition"]

_PROSE = (
    "The ferry to the island leaves at noon, and those who have tickets may board with their dogs. "
    "Nobody had told the captain that the harbour would be closed. "
    "She waited an hour, read two letters and wrote a third. "
    'Was it worth the trouble? "Of course," said her brother. '
    "Rain fell on the deck until the evening, when lamps were lit along the quay."
)
_MENU = "Home\nNews\nSport\nWeather\nContact us\nHome\nNews"
_PAGES = (
    "",
    " \n\t\n",
    _PROSE,
    _PROSE + "\n\n" + _PROSE,
    _PROSE.replace(". ", ".\n")
    + "\nPlease enable JavaScript.\nThis site uses cookies to serve you.\nA [1] note [edit]\nOne two.",
    _MENU,
    _MENU + "\n" + _PROSE,
    "\n".join(f"- {word} and more of it" for word in _PROSE.split()),
    "\n".join(f"{word} and so on it goes ..." for word in _PROSE.split()),
    " ".join(f"#{word}" for word in _PROSE.split()),
    " ".join(f"{word} …" for word in _PROSE.split()),
    " ".join(str(17 * number) for number in range(80)) + " and the",
    " ".join(word[:2] for word in _PROSE.split()),
    _PROSE.replace(" ", "", 60),
    " ".join(word for word in _PROSE.split() if len(word) > 4) * 2,
    _PROSE + " buy it now" * 40,
    _PROSE + " the very best offer of the whole year is here" * 6,
    _PROSE + "\nLorem ipsum dolor sit amet.",
    _PROSE + "\nfunction () { return } is code.",
    _PROSE + "\n" + "a" * 1200 + " is a long word.",
)


class _Shown(FilterSuite):
    def documents(self) -> list[Document]:
        own = [Document(id=f"own:{number}", text=text) for number, text in enumerate(_PAGES)]
        chat = Document(id="own:chat", messages=[{"role": "user", "content": _PROSE}])
        return [*super().documents(), *own, chat]


class TestGopherQuality(_Shown):
    """With its defaults."""

    component = "gopher_quality"


class TestGopherRepetition(_Shown):
    """With its defaults."""

    component = "gopher_repetition"


class TestC4(_Shown):
    """With its defaults."""

    component = "c4"


class TestC4WithoutPunctuation(_Shown):
    """As FineWeb has it, with a list of words."""

    component = "c4"
    settings: ClassVar[dict[str, Any]] = {"terminal_punctuation": False, "bad_words": ["weather"], "min_sentences": 2}


class TestFineweb(_Shown):
    """With its defaults."""

    component = "fineweb"
