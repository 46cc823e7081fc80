from typing import ClassVar

from lmgraft.testing import TokenizerSuite


class TestTinyUnigram(TokenizerSuite):
    component = "tiny_unigram"
    settings: ClassVar = {"entries": 400, "at_least": 2}
