"""The door's own checks of ``dus``."""

from __future__ import annotations

from lmgraft_dus.conformance import TestDUS

__all__ = ["TestDUS"]
