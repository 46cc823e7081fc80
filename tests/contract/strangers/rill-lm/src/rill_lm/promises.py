"""What ``lmgraft plugins check rill-lm`` holds the model to."""

from typing import ClassVar

from lmgraft.testing import ArchitectureSuite

SMALL: dict[str, object] = {"depth": 2, "hidden": 16, "channels": 24, "horizon": 32}


class TestRill(ArchitectureSuite):
    component = "rill"
    settings = SMALL


class TestTiedRill(ArchitectureSuite):
    component = "rill"
    settings: ClassVar[dict[str, object]] = {**SMALL, "tied": True, "memory": -1.0}
