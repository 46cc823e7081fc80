"""The suite of objectives sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import Nonconforming, NotApplicable, ObjectiveSuite
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

#: Learns from text, with a penalty on entropy.
TEXT = """\
import torch

from lmgraft.seams.objective import Example, Loss


class Part:
    asks = frozenset({"logprob", "entropy"})

    def __init__(self, config):
        self.calls = 0

    def columns(self):
        return frozenset({"text"})

    def encode(self, document, tokenizer):
        if not document.text:
            return []
        self.calls += 1
        ids = tokenizer.encode_batch([document.text])[0]
        tokens = [tokenizer.end_id, *ids, tokenizer.end_id]
        weights = [0.0] + [1.0] * (len(tokens) - 1)
        return [Example(tokens, weights)]

    def normalizers(self, batch):
        return {"tokens": float(batch.weights.sum())}

    def loss(self, out, batch, shared):
        costs = out.logprob + 0.01 * out.entropy
        term = -(costs * batch.weights).sum()
        count = batch.weights.sum()
        return Loss({"tokens": term}, {"certain": (float((out.logprob > -1).mul(batch.weights).sum()), float(count))})
"""

#: Learns from pairs, against a reference and the whole batch's mean.
PAIRS = """\
import torch
from torch.nn import functional

from lmgraft import chat
from lmgraft.errors import Problem, UserError
from lmgraft.seams.objective import Example, Loss


class Part:
    asks = frozenset({"logprob"})

    def __init__(self, config):
        pass

    def columns(self):
        return frozenset({"chosen", "rejected"})

    def values(self):
        return frozenset({"reference", "length"})

    def chat_template(self, tokenizer):
        return chat.source("solar")

    def encode(self, document, tokenizer):
        if not (document.prompt and document.chosen and document.rejected):
            raise UserError(Problem(f"row {document.id} is no pair", "a side is missing", "take it out"))
        found = []
        for role, answer in enumerate((document.chosen, document.rejected)):
            said = [{"role": "user", "content": document.prompt}, {"role": "assistant", "content": answer}]
            tokens, weights = chat.encode_chat(said, tokenizer, "solar")
            found.append(Example(tokens, weights, role, {"length": float(len(answer))}))
        return found

    def normalizers(self, batch):
        return {"pairs": float(((batch.unit >= 0) & (batch.role == 0)).sum())}

    def gains(self, out, batch):
        return (out.logprob * batch.weights).sum(1) - batch.values["reference"]

    def prepare(self, out, batch):
        real = batch.unit >= 0
        return {"gain": self.gains(out, batch)[real].sum(), "rows": float(real.sum())}

    def loss(self, out, batch, shared):
        gains = self.gains(out, batch) - shared["gain"] / max(shared["rows"], 1.0)
        sides = []
        for role in (0, 1):
            rows = ((batch.role == role) & (batch.unit >= 0)).nonzero()[:, 0]
            sides.append(gains[rows[batch.unit[rows].argsort()]])
        costs = -functional.logsigmoid(0.1 * (sides[0] - sides[1])) - functional.logsigmoid(0.1 * sides[0])
        margin = float((sides[0] - sides[1]).detach().sum())
        return Loss({"pairs": costs.sum()}, {"margin": (margin, float(len(costs)))})
"""

PADDING, SPLIT = "test_padding_changes_nothing", "test_microbatch_split_changes_nothing"
ORDER = "test_order_changes_nothing"
SUMS, DATA, FINITE = "test_loss_is_sums", "test_normalizers_read_data_only", "test_gradients_are_finite"
SOUND, SAME, REFUSALS = "test_examples_are_sound", "test_encode_is_deterministic", "test_refusals_name_the_document"
TERM = "term = -(costs * batch.weights).sum()"
COSTS = "out.logprob + 0.01 * out.entropy"
COUNT, TOTAL = "count = batch.weights.sum()", "float(batch.weights.sum())}"
ROWS = "rows = ((batch.role == role) & (batch.unit >= 0)).nonzero()[:, 0]"
SHARED = 'self.gains(out, batch)[real].sum(), "rows": float(real.sum())'
MARGIN = "-functional.logsigmoid(0.1 * (sides[0] - sides[1]))"
TEMPLATE = "test_chat_template_formats_as_encode"
NEEDS = {TEXT: {"columns:text"}, PAIRS: {"columns:chosen", "columns:rejected", "reference"}}

#: source, right, wrong, the check that sees it, a word of what it says
WRONG = [
    (TEXT, TERM, "term = -(out.logprob * batch.weights + 0.01 * out.entropy).sum()", PADDING, "columns and 0 rows"),
    (TEXT, TOTAL, "float(len(batch.tokens))}", PADDING, "normalizer 'tokens'"),
    (TEXT, TERM, TERM.replace(".sum()", ".mean()"), SPLIT, "split into microbatches"),
    (TEXT, TERM, TERM.replace(".sum()", ".sum() / batch.weights.sum()"), SUMS, "something else than sums"),
    (TEXT, TOTAL, "1.0}", SUMS, "normalizer 'tokens'"),
    (TEXT, TERM, "term = -(costs * batch.weights)[:1].sum()", ORDER, "order of units"),
    (TEXT, COUNT, "count = torch.tensor(1.0)", "test_metrics_are_sums", "count is 1"),
    (TEXT, 'frozenset({"logprob", "entropy"})', 'frozenset({"logprob"})', "test_asks_are_known", "reads entropy"),
    (TEXT, 'frozenset({"logprob", "entropy"})', '{"logits"}', "test_asks_are_known", "logits"),
    (TEXT, "weights = [0.0]", "weights = [torch.rand(1).item()]", SAME, "a second time"),
    (TEXT, "weights = [0.0]", "weights = [self.calls * 1.0]", "test_one_document_one_unit", "after other documents"),
    (TEXT, "weights = [0.0] + ", "weights = ", SOUND, "weights"),
    (TEXT, "[tokenizer.end_id, *ids,", "[-1, *ids,", SOUND, "the token -1"),
    (TEXT, "tokens = [tokenizer.end_id, *ids, tokenizer.end_id]", "tokens = ids[:1]", SOUND, "1 tokens"),
    (TEXT, "+ [1.0] * (len", "+ [0.0] * (len", SOUND, "without anything to learn"),
    (TEXT, "Example(tokens, weights)", "Example(tokens, weights, values={'x': 1.0})", SOUND, "values"),
    (TEXT, "if not document.text:", "if document.text == 'never':", REFUSALS, "lacks text"),
    (TEXT, COSTS, "out.logprob.detach() * 0 + (1 - out.logprob.exp()).log()", FINITE, "is not finite at"),
    (TEXT, COSTS, f"({COSTS}).detach()", SPLIT, "no term"),
    (TEXT, 'Loss({"tokens": term}', 'Loss({"token": term}', SPLIT, "same names"),
    (TEXT, 'Loss({"tokens": term}', 'Loss({"tokens": term[None]}', SPLIT, "no scalar"),
    (TEXT, COUNT, "count = batch.weights.mul_(1.5).sum()", "test_batch_is_left_alone", "weights"),
    (TEXT, 'return {"tokens": float(batch', 'return {"tokens": -float(batch', DATA, "not negative"),
    (TEXT, TOTAL, TOTAL[:-1] + " + self.calls}", DATA, "saw before"),
    (
        TEXT,
        TERM,
        "term = -(costs * batch.weights).sum() * (1 if torch.is_grad_enabled() and out.logprob.requires_grad else 2)",
        "test_held_out_rows_are_scored",
        "on held-out rows",
    ),
    (PAIRS, ROWS, "rows = torch.arange(role, len(gains) // 2 * 2, 2)", ORDER, "order of rows"),
    (PAIRS, "& (batch.unit >= 0)).nonzero()", "& (batch.unit >= -1)).nonzero()", PADDING, "which have unit -1"),
    (PAIRS, SHARED, 'self.gains(out, batch)[real].mean(), "rows": 1.0', SPLIT, "in microbatches of 1"),
    (PAIRS, 'chat.source("solar")', 'chat.source("chatml")', TEMPLATE, "generation would prompt"),
    (PAIRS, 'f"row {document.id} is no pair"', '"a row is no pair"', REFUSALS, "without its id"),
    (PAIRS, 'frozenset({"reference", "length"})', 'frozenset({"length"})', "test_needs_say_what_it_reads", "needs"),
    (PAIRS, MARGIN, "(1 + (-0.1 * (sides[0] - sides[1])).exp()).log()", FINITE, "logsigmoid"),
    (PAIRS, "weights, role, {", "weights, 300 + role, {", SOUND, "role 300"),
]


@contextmanager
def suite(site, source: str, needs: set[str], more: str = "") -> Iterator[ObjectiveSuite]:
    before = f"""
        @dataclass
        class Own(ComponentConfig):
            margin: float = 1.0

            def needs(self):
                return frozenset({sorted(needs)!r})
            {more}
    """
    files = {
        "wrong_objective/__init__.py": "",
        "wrong_objective/plugin.py": module(
            "objective", component("wrong_objective", "wrong_objective.part:Part", "Own"), before=before
        ),
        "wrong_objective/part.py": source,
    }
    parts = {"objective": {"wrong_objective": "wrong_objective.plugin"}}
    site.install(Distribution("wrong-objective", files, parts, requires=["lmgraft<99"]))
    found = type("TestWrong", (ObjectiveSuite,), {"component": "wrong_objective"})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("source", "right", "wrong", "check", "word"), WRONG, ids=[f"{wrong}: {check}" for _, _, wrong, check, _ in WRONG]
)
def test_a_wrong_objective_is_seen(site, source, right, wrong, check, word):
    assert right in source
    with (
        suite(site, source.replace(right, wrong), NEEDS[source]) as one,
        pytest.raises(Nonconforming, match=word) as said,
    ):
        getattr(one, check)()
    assert all(said.value.problem.__getattribute__(line) for line in ("fact", "cause", "remedy"))


@pytest.mark.parametrize("source", [TEXT, PAIRS], ids=["text", "pairs"])
def test_a_right_objective_passes(site, source):
    passed = []
    with suite(site, source, NEEDS[source]) as one:
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
    assert {check for of, _, _, check, _ in WRONG if of == source} <= set(passed)


def test_needs_are_what_is_read(site):
    with suite(site, TEXT, {"columns:messages"}) as one, pytest.raises(Nonconforming, match="columns:text"):
        one.test_needs_say_what_it_reads()


def test_documents_that_it_cannot_learn_from_are_the_author_s_to_replace(site):
    source = TEXT.replace("if not document.text:", "if len(document.text) > 5:")
    with suite(site, source, NEEDS[TEXT]) as one, pytest.raises(Nonconforming, match=r"override documents\(\)"):
        one.test_loss_is_sums()


PACKABLE = "def provides(self): return frozenset({'packable'})"
SUMMED = "term = -(costs * batch.weights).sum()"


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        (SUMMED, "term = -(costs * batch.weights).sum(1).square().sum()", "which rows share a sequence"),
        (SUMMED, "term = -(costs * batch.weights * (batch.unit >= 0)[:, None]).sum()", "breaks off at packed rows"),
        ("count = batch.weights.sum()", "count = (batch.weights.sum(1) > 0).sum()", "the metric certain"),
    ],
)
def test_an_objective_that_cannot_be_packed_and_says_so_is_seen(site, right, wrong, word):
    source = TEXT.replace(right, wrong)
    assert source != TEXT
    with suite(site, source, NEEDS[TEXT], PACKABLE) as one, pytest.raises(Nonconforming, match=word):
        one.test_packed_rows_are_rows()


def test_a_packable_objective_passes(site):
    with suite(site, TEXT, NEEDS[TEXT], PACKABLE) as one:
        one.test_packed_rows_are_rows()


def test_an_objective_that_is_not_packable_is_not_asked(site):
    with suite(site, TEXT, NEEDS[TEXT]) as one, pytest.raises(NotApplicable, match="does not say `packable`"):
        one.test_packed_rows_are_rows()


def test_packable_objectives_read_no_values(site):
    with suite(site, PAIRS, NEEDS[PAIRS], PACKABLE) as one, pytest.raises(Nonconforming, match="reads length, ref"):
        one.test_packed_rows_are_rows()


@pytest.mark.parametrize("gives", ["{'other': 1}", "{'margin': 2.0}"])
def test_an_encoding_of_settings_that_it_does_not_have_is_seen(site, gives):
    more = f"def encoding(self): return {gives}"
    with suite(site, TEXT, NEEDS[TEXT], more) as one, pytest.raises(Nonconforming, match=r"encoding\(\) of"):
        one.test_encoding_names_its_settings()


@pytest.mark.parametrize("gives", ["{}", "{'margin': self.margin}"])
def test_an_encoding_of_its_settings_passes(site, gives):
    with suite(site, TEXT, NEEDS[TEXT], f"def encoding(self): return {gives}") as one:
        one.test_encoding_names_its_settings()
