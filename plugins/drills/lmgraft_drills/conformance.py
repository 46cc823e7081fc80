"""Holds ``drills`` to the data sources' contract: as chats and as pairs."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import DataSourceSuite

__all__ = ["TestDrillPairs", "TestDrills"]


class TestDrills(DataSourceSuite):
    component = "drills"
    settings: ClassVar[dict[str, Any]] = {"count": 620, "flawed": 0.2}


class TestDrillPairs(DataSourceSuite):
    component = "drills"
    settings: ClassVar[dict[str, Any]] = {"count": 620, "rows": "pairs"}
