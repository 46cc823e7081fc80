from typing import ClassVar

from lmgraft.testing import ObjectiveSuite


class TestHedge(ObjectiveSuite):
    component = "hedge"


class TestTimid(ObjectiveSuite):
    component = "hedge"
    settings: ClassVar = {"eps": 0.2, "calm": 0.05}


class TestBold(ObjectiveSuite):
    component = "hedge"
    settings: ClassVar = {"eps": 0.0}
