"""The conformance kit on ``preference``."""

from __future__ import annotations

from lmgraft_preference.conformance import TestPreference

__all__ = ["TestPreference"]
