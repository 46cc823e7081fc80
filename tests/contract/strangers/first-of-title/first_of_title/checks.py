"""Suites of first_of_title."""

from __future__ import annotations

from typing import ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite


class TitledDocuments:
    def documents(self):
        titled = [
            Document(id=f"t{number}", text="word " * (number % 7 + 1), meta={"title": title, "stars": number % 5})
            for number, title in enumerate(["Otter", "Heron", "otter", "Otter", "Heron", "Otter ", "", "", "Newt"] * 4)
        ]
        return [*super().documents(), *titled]


class TestFirstOfTitle(TitledDocuments, FilterSuite):
    component = "first_of_title"


class TestLongestOfTitle(TitledDocuments, FilterSuite):
    component = "first_of_title"
    settings: ClassVar[dict] = {"prefer": "LONGEST", "fold": True, "keep": 2}


class TestHighestOfTitle(TitledDocuments, FilterSuite):
    component = "first_of_title"
    settings: ClassVar[dict] = {"prefer": "HIGHEST", "score": "stars"}
