from lmgraft.testing import EvaluatorSuite


class TestNextWord(EvaluatorSuite):
    component = "nextword"
