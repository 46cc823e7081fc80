from __future__ import annotations

from lmgraft_lstm.conformance import TestLstm

__all__ = ["TestLstm", "TestTied"]


class TestTied(TestLstm):
    settings = {"layers": 1, "hidden": 32, "tied": True, "forget_bias": 0.5, "context": 20}  # noqa: RUF012
