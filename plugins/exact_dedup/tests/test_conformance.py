"""``exact_dedup`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft.testing import FilterSuite


class TestExactDedup(FilterSuite):
    component = "exact_dedup"
