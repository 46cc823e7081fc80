"""The conformance kit on ``tfixup``: the bare suite is enough."""

from __future__ import annotations

from lmgraft.testing import InitializerSuite


class TestTFixup(InitializerSuite):
    component = "tfixup"
