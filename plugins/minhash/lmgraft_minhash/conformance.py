"""Holds ``minhash`` to the filters' contract: ``lmgraft plugins check lmgraft --part minhash``."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestMinhash", "TestMinhashOfCharacters", "TestMinhashWithinGroups"]


class TestMinhash(FilterSuite):
    component = "minhash"


class TestMinhashOfCharacters(FilterSuite):
    component = "minhash"
    settings: ClassVar[dict[str, Any]] = {
        "shingles": "chars",
        "ngram": 24,
        "normalise": "none",
        "bands": 20,
        "rows": 13,
    }


class TestMinhashWithinGroups(FilterSuite):
    component = "minhash"
    settings: ClassVar[dict[str, Any]] = {"scope": "key", "key": "dump"}

    def documents(self) -> list[Document]:
        """Each in one of two dumps."""
        shown = super().documents()
        return [
            dataclasses.replace(one, meta={**one.meta, "dump": str(number % 2)}) for number, one in enumerate(shown)
        ]
