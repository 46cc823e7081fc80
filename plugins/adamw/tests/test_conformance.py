"""The conformance kit on ``adamw``: the bare suite is enough."""

from __future__ import annotations

from lmgraft.testing import OptimizerSuite


class TestAdamW(OptimizerSuite):
    component = "adamw"
