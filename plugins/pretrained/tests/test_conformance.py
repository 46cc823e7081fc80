"""The seam's own checks of ``pretrained``."""

from __future__ import annotations

from lmgraft_pretrained.conformance import TestPretrained, TestPretrainedStage

__all__ = ["TestPretrained", "TestPretrainedStage"]
