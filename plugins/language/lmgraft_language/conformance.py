"""Holds ``language`` to the filters' contract, with the model that it brings along."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestLanguage", "TestLanguageReports"]

TEXTS = (
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "12 34 56 78 :: == ++ 99",
    "ok",
)


class TestLanguage(FilterSuite):
    """English and Chinese stay."""

    component = "language"
    settings: ClassVar[dict[str, Any]] = {"keep": ["en", "zh"]}

    def documents(self) -> list[Document]:
        """The kit's, every third in another language."""
        return [
            dataclasses.replace(document, text=TEXTS[i // 3 % len(TEXTS)]) if i % 3 == 0 else document
            for i, document in enumerate(super().documents())
        ]


class TestLanguageReports(TestLanguage):
    """Nothing is dropped."""

    component = "language"
