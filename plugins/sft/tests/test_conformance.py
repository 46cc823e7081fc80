"""The conformance kit on ``sft``: the bare suite is enough."""

from __future__ import annotations

from lmgraft.testing import ObjectiveSuite


class TestSFT(ObjectiveSuite):
    component = "sft"
