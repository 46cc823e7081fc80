"""The conformance kit on ``normal``: the bare suite is enough."""

from __future__ import annotations

from lmgraft.testing import InitializerSuite


class TestNormal(InitializerSuite):
    component = "normal"
