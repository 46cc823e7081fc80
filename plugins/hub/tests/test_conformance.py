"""The seam's own checks of ``hub``."""

from __future__ import annotations

from lmgraft_hub.conformance import TestHub

__all__ = ["TestHub"]
