from lmgraft.testing import EvaluatorSuite


class TestNextWord(EvaluatorSuite):
    component = "nextword"

    def known(self, vocabulary):
        return {"next_word_accuracy": 0.0}
