"""``length`` keeps the contract of filters."""

from __future__ import annotations

from typing import ClassVar

from lmgraft.testing import FilterSuite


class TestLength(FilterSuite):
    component = "length"
    settings: ClassVar[dict[str, int]] = {"min_chars": 120, "max_words": 60}
