"""Holds ``unicode``, ``emoji`` and ``spelling`` to the filters' contract, with texts that make each of them act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestEmoji", "TestEmojiRemoved", "TestSpelling", "TestSpellingCorrects", "TestUnicode", "TestUnicodeSpaces"]

TEXTS = (
    "sch\u00c3\u00b6n, \u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d\r\nand a\x00b\x0cc",
    "\ufeffco\u00adop\u00aderate \u06cc\u200c\u06a9 x\u200cy \u202eabc\u202c",
    "cafe\u0301 \u212b \ufb01ne \uff21\uff22",
    "many   blanks \t here \n\n\n\nand there\u00a0\u2003.",
    "\U0001f44d\U0001f3fd \u00a9 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1fa\U0001f1f3 3\ufe0f\u20e3",
    "We recieve the seperate parcels tomorow and the kernal is fine, as was to be expected of the others.",
    "def recieve(x):\n    return recieve_all(x)  # recieve\n",
    "",
)


class _Shown(FilterSuite):
    def documents(self) -> list[Document]:
        own = [Document(id=f"own:{number}", text=text) for number, text in enumerate(TEXTS)]
        chat = Document(id="own:chat", messages=[{"role": "user", "content": TEXTS[0]}])
        return [*super().documents(), *own, chat]


class TestUnicode(_Shown):
    """With its defaults."""

    component = "unicode"


class TestUnicodeSpaces(_Shown):
    """With all that it can do."""

    component = "unicode"
    settings: ClassVar[Mapping[str, Any]] = {"form": "NFKC", "bidi": True, "spaces": True}


class TestEmoji(_Shown):
    """Names."""

    component = "emoji"


class TestEmojiRemoved(_Shown):
    """Removal, of what is text by default, too."""

    component = "emoji"
    settings: ClassVar[Mapping[str, Any]] = {"to": "remove", "text_style": True}


class TestSpelling(_Shown):
    """Reports: every document stays as it is."""

    component = "spelling"


class TestSpellingCorrects(_Shown):
    """Corrects, with lists of its own."""

    component = "spelling"

    def prepare(self) -> Mapping[str, Any]:
        lists = {
            "dictionary": "we\nreceive\nthe\nseparate\nparcels\ntomorrow\nis\nfine\nas\nwas\nto\nbe\nof\nexpected\n",
            "words": "kernal\n",
            "misspellings": "recieve->receive\n$others\nothrs\n",
        }
        for name, text in lists.items():
            (self.folder / f"{name}.txt").write_text(text, encoding="utf-8")
        return {"correct": True, "max_unknown": 1.0, **{name: str(self.folder / f"{name}.txt") for name in lists}}
