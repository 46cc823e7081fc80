"""The door's own checks of ``gguf``."""

from __future__ import annotations

import pytest

pytest.importorskip("gguf")

from lmgraft_gguf.conformance import TestGGUF

__all__ = ["TestGGUF"]
