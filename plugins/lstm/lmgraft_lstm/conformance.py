"""Holds lstm to the architectures' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ArchitectureSuite

__all__ = ["TestLstm"]


class TestLstm(ArchitectureSuite):
    component = "lstm"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 48}
