"""The door's own checks of ``hf``."""

from __future__ import annotations

from lmgraft_hf.conformance import TestHuggingFace

__all__ = ["TestHuggingFace"]
