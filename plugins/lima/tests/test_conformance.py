"""``lima`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft.testing import FilterSuite


class TestLima(FilterSuite):
    component = "lima"
