"""The conformance kit on ``perplexity``."""

from __future__ import annotations

from lmgraft_perplexity.conformance import TestPerplexity, TestPerplexityInWindows

__all__ = ["TestPerplexity", "TestPerplexityInWindows"]
