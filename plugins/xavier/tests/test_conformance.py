"""The conformance kit on ``xavier``: the bare suite is enough."""

from __future__ import annotations

from lmgraft.testing import InitializerSuite


class TestXavier(InitializerSuite):
    component = "xavier"
