"""The door's own checks of ``block_expansion``."""

from __future__ import annotations

from lmgraft_block_expansion.conformance import TestBlockExpansion

__all__ = ["TestBlockExpansion"]
