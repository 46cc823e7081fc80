"""Holds ``block_expansion`` to the merges' contract: ``lmgraft plugins check lmgraft --part block_expansion``."""

from __future__ import annotations

from lmgraft.testing import MergeSuite

__all__ = ["TestBlockExpansion"]


class TestBlockExpansion(MergeSuite):
    component = "block_expansion"
