"""Holds ``gguf`` to the exporters' contract: ``lmgraft plugins check lmgraft --part gguf``."""

from __future__ import annotations

from lmgraft.testing import ExporterSuite

__all__ = ["TestGGUF"]


class TestGGUF(ExporterSuite):
    component = "gguf"
