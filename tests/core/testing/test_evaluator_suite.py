"""The suite of evaluators sees what is wrong, and says so by the right check; its models refuse what real ones do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.seams.parallelism import ModelHandle, Sampling
from lmgraft.testing import EvaluatorSuite, Nonconforming, NotApplicable
from lmgraft.testing.handles import HashHandle, Recorded, Refused
from lmgraft.testing.inputs import UniformHandle
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

SURPRISE = """\
import math
import random
from itertools import islice

from lmgraft.errors import Problem, UserError
from lmgraft.seams.evaluator import Score


class Part:
    def __init__(self, config):
        self.batch = config.batch

    def run(self, handle, tokenizer, *, data, limit):
        questions, documents = [], 0
        for document in islice(data.documents("validation"), limit):
            if not document.text:
                continue
            documents += 1
            ids = tokenizer.encode_batch([document.text])[0][: handle.context]
            questions.append(([tokenizer.end_id], ids))
        if not questions:
            raise UserError(Problem("no text is held out", "the split is empty", "corpus.validation_bytes=1000"))
        nats, tokens, right = [], 0, 0
        for start in range(0, len(questions), self.batch):
            for scored in handle.score(questions[start : start + self.batch]):
                nats += [-logprob for logprob in scored.logprobs]
                tokens += len(scored.logprobs)
                right += sum(scored.greedy)
        detail = {"documents": documents, "tokens": tokens}
        return [
            Score("surprise", math.fsum(nats) / tokens, "nats", False, detail=detail),
            Score("accuracy", right / tokens, detail=detail),
            Score("length", tokens / documents, "tokens", reference=True, detail=detail),
        ]
"""
DETERMINISTIC, SOUND, LIMIT = "test_deterministic", "test_scores_are_sound", "test_limit"
CONTEXT, NOTHING, KNOWN = "test_fits_the_context", "test_nothing_to_ask", "test_known_score"
DETAIL = 'detail = {"documents": documents, "tokens": tokens}'
ASKED = "questions.append(([tokenizer.end_id], ids))"
NEEDS, BEGIN = "test_needs_say_what_it_reads", "        nats, tokens, right = [], 0, 0"
LIMITED = 'islice(data.documents("validation"), limit)'

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("nats, tokens, right = [], 0, 0", "nats, tokens, right = [random.random()], 0, 0", DETERMINISTIC, "other scores"),
    (BEGIN, f"        random.shuffle(questions)\n{BEGIN}", DETERMINISTIC, "other questions"),
    (BEGIN, f"        questions.sort(key=lambda one: hash(str(one)))\n{BEGIN}", DETERMINISTIC, "in another process"),
    ("math.fsum(nats) / tokens", "math.fsum(nats) / (tokens + 1)", KNOWN, "surprise of a uniform model"),
    ("right / tokens,", "right / tokens + 0.5,", KNOWN, "accuracy of a uniform model"),
    ("math.fsum(nats) / tokens", "math.inf", SOUND, "finite number"),
    ('Score("accuracy"', 'Score("surprise"', SOUND, "two scores one name"),
    ('Score("accuracy"', 'Score(f"accuracy over {right}"', SOUND, "names its scores"),
    (DETAIL, "detail = {'documents': {1, 2}}", SOUND, "no JSON"),
    (DETAIL, "detail = {}", SOUND, "number of items"),
    (DETAIL, DETAIL + "\n        nats, right = [1.0], 0", SOUND, "scores different models alike"),
    ("tokens / documents,", "tokens / documents + right,", SOUND, "depends on the model"),
    (LIMITED, 'data.documents("validation")', LIMIT, "does not keep to a limit"),
    (LIMITED, 'islice(data.documents("validation"), limit or 5)', LIMIT, "beyond all items"),
    (DETAIL, 'detail = {"tokens": tokens}', LIMIT, "rests on 1 items"),
    ("[0][: handle.context]", "[0]", CONTEXT, "the context takes 4"),
    ("([tokenizer.end_id], ids)", "([], ids)", CONTEXT, "empty prefix"),
    ("([tokenizer.end_id], ids)", "([tokenizer.vocab_size], ids)", CONTEXT, "the id 258"),
    ("if not questions:", "if questions == 0:", NOTHING, "ZeroDivisionError"),
    (LIMITED, LIMITED.replace('"v', 'columns=frozenset({"text", "id"}), split="v'), NEEDS, "the column id"),
    ("-logprob for logprob in", "-sum(scored.logprobs) / self.batch for _ in", "test_execution_settings", "batch=1"),
]
BATCHES, HELD_OUT = "test_asks_in_batches", "test_scores_no_training_documents"
WRONG += [
    (LIMITED, LIMITED.replace("validation", "train"), NEEDS, "held-out documents and reads none"),
    ("in handle.score(questions[start : start + self.batch])",
     "in [handle.score([one])[0] for one in questions[start : start + self.batch]]", BATCHES, "one question at a time"),
    (LIMITED, 'islice([*data.documents("validation"), *data.documents("train")], limit)', HELD_OUT, "were trained on"),
    (LIMITED, 'islice(list(data.documents("validation")) and data.documents("train"), limit)', HELD_OUT, "other ids"),
]  # fmt: skip
#: What the checks themselves stumbled over.
NONE, NO_DETAIL = "\n        return None", "detail = None"
WRONG += [
    (DETAIL, DETAIL + NONE, DETERMINISTIC, "gives no scores"),
    (DETAIL, DETAIL + NONE, KNOWN, "gives no scores"),
    (DETAIL, DETAIL + NONE, "test_equal_builds", "gives no scores"),
    ("math.fsum(nats) / tokens", "None", KNOWN, "its value is None"),
    (DETAIL, NO_DETAIL, LIMIT, "its detail is None"),
    (DETAIL, NO_DETAIL, SOUND, "its detail is None"),
]  # fmt: skip
BEFORE = """
    @dataclass
    class Own(ComponentConfig):
        batch: int = execution(8)

        def needs(self):
            return frozenset({"columns:text", "split:validation"})
"""


@contextmanager
def suite(site, source: str, before: str = BEFORE) -> Iterator[EvaluatorSuite]:
    files = {
        "wrong_evaluator/__init__.py": "",
        "wrong_evaluator/plugin.py": module(
            "evaluator", component("wrong_evaluator", "wrong_evaluator.part:Part", "Own"), before=before
        ),
        "wrong_evaluator/part.py": source,
    }
    parts = {"evaluator": {"wrong_evaluator": "wrong_evaluator.plugin"}}
    site.install(Distribution("wrong-evaluator", files, parts, requires=["lmgraft<99"]))

    class TestWrong(EvaluatorSuite):
        component = "wrong_evaluator"

        def known(self, vocab_size):
            from math import log

            return {"surprise": log(vocab_size), "accuracy": 0.0}

    found = TestWrong()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{word}: {check}" for *_, check, word in WRONG]
)
def test_a_wrong_evaluator_is_seen(site, right, wrong, check, word):
    assert right in SURPRISE
    with suite(site, SURPRISE.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


EXAMPLES = """for document in islice(data.documents("validation"), limit):
            shown = next(data.documents("train"), document)
            first = tokenizer.encode_batch([shown.text])[0][:2]"""
TRAIN_READ = LIMITED.replace("validation", "train")


@pytest.mark.parametrize(
    ("source", "before"),
    [
        (
            SURPRISE.replace(f"for document in {LIMITED}:", EXAMPLES)
            .replace("[tokenizer.end_id], ids", "[tokenizer.end_id, *first], ids")
            .replace("[: handle.context]", "[: handle.context - len(first)]"),
            BEFORE,
        ),
        (SURPRISE, BEFORE.replace(', "split:validation"', "")),
        (SURPRISE.replace(LIMITED, TRAIN_READ), BEFORE.replace(', "split:validation"', "")),
    ],
    ids=["examples from train before what is held out", "says nothing", "says nothing, reads train"],
)
def test_splits_are_as_the_settings_say(site, source, before):
    with suite(site, source, before) as one:
        getattr(one, NEEDS)()
        one.test_scores_are_sound()
        if "split" in before:
            getattr(one, HELD_OUT)()
        else:
            with pytest.raises(NotApplicable, match="split:validation"):
                getattr(one, HELD_OUT)()


def test_a_right_evaluator_passes(site):
    passed = []
    with suite(site, SURPRISE) as one:
        for check in checks_of(type(one)):
            one.__dict__.clear()
            one.setup_method()
            try:
                getattr(one, check)()
                passed.append(check)
            except NotApplicable:
                pass
            finally:
                one.teardown_method()
    assert {check for *_, check, _ in WRONG} <= set(passed)


def test_without_a_known_score_the_check_says_so(site):
    with suite(site, SURPRISE) as one:
        one.known = lambda vocab_size: {}
        with pytest.raises(NotApplicable, match="known"):
            one.test_known_score()


@pytest.mark.parametrize("handle", [UniformHandle(9, 8), HashHandle(9, 8), HashHandle(9, 8, seed=1)])
def test_a_model_answers_a_question_alike_in_any_batch(handle: ModelHandle):
    first, second = ([1, 2], [3, 4, 5]), ([0], [3, 4])
    together = handle.score([first, second])
    assert [*handle.score([first]), *handle.score([second])] == together
    assert handle.score([second, first]) == together[::-1]
    assert [len(scored.logprobs) for scored in together] == [3, 2]


def test_opinions_hang_on_all_that_stands_before():
    handle = HashHandle(9, 8)
    (whole,), (cut,) = handle.score([([1, 2], [3, 4])]), handle.score([([1, 2, 3], [4])])
    assert whole.logprobs[1:] == cut.logprobs
    assert handle.score([([2, 2], [3, 4])])[0].logprobs[1] != whole.logprobs[1]
    written = list(handle.generate([1], Sampling(max_new_tokens=5)))
    assert len(written) == 5
    assert list(handle.generate([1], Sampling(max_new_tokens=5, stop_ids=(written[1],)))) == written[:2]
    assert len(list(handle.generate([1] * 6, Sampling(max_new_tokens=5)))) == 2


@pytest.mark.parametrize(
    ("request_", "word"), [(([], [1]), "empty prefix"), (([9], [1]), "the id 9"), (([1] * 5, [1] * 5), "5 \\+ 5 ids")]
)
def test_what_no_model_answers_is_refused(request_, word):
    handle = Recorded(UniformHandle(9, 8), 9)
    with pytest.raises(Refused, match=word):
        handle.score([([1], [2]), request_])
    assert handle.score([([1] * 5, [1] * 4)])
