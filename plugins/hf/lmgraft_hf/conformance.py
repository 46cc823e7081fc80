"""Holds ``hf`` to the exporters' contract: ``lmgraft plugins check lmgraft --part hf``."""

from __future__ import annotations

from lmgraft.testing import ExporterSuite

__all__ = ["TestHuggingFace"]


class TestHuggingFace(ExporterSuite):
    component = "hf"
