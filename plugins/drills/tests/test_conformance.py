"""The seam's own checks of ``drills``."""

from __future__ import annotations

from lmgraft_drills.conformance import TestDrillPairs, TestDrills

__all__ = ["TestDrillPairs", "TestDrills"]
