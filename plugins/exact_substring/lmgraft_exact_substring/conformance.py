"""Holds ``exact_substring`` to the filters' contract: ``lmgraft plugins check lmgraft --part exact_substring``."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestExactSubstring", "TestExactSubstringThatDrops"]

FOOTER = (
    "All rights reserved. Réservation de tous droits. 版权所有。 No part may be reproduced in any form by any means."
)


class _WithFooters(FilterSuite):
    def documents(self) -> list[Document]:
        """Every third text ends in the same words."""
        shown = super().documents()
        return [
            dataclasses.replace(one, text=f"{one.text} {FOOTER}{number}")
            if one.text is not None and not number % 3
            else one
            for number, one in enumerate(shown)
        ]


class TestExactSubstring(_WithFooters):
    component = "exact_substring"
    settings: ClassVar[dict[str, Any]] = {"min_bytes": 50}


class TestExactSubstringThatDrops(_WithFooters):
    component = "exact_substring"
    settings: ClassVar[dict[str, Any]] = {"min_bytes": 40, "action": "drop"}
