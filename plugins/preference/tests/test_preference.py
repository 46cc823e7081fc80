"""The evaluator on models whose preferences are known exactly, and Wilson's interval against its definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft import chat
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import Evaluator, Score
from lmgraft.seams.parallelism import Sampling, Scored
from lmgraft_preference.plugin import PreferenceConfig, lmgraft_evaluator
from lmgraft_preference.preference import Preference
from lmgraft_preference.shares import Z95, wilson

END = 256
Request = tuple[Sequence[int], Sequence[int]]


@dataclass
class Bytes:
    """One id a byte, and an end token."""

    vocab_size = 257
    end_id = END
    pad_id = 0
    chat_template: str | None = None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return bytes(token for token in ids if token != END).decode()

    def token_bytes(self) -> list[int]:
        return [1] * END + [0]

    def fingerprint(self) -> str:
        return "bytes"


@dataclass
class Taste:
    """A nat for every token, and ``likes`` gains on each of these bytes."""

    likes: dict[str, float] = field(default_factory=dict)
    context: int = 200
    calls: list[list[Request]] = field(default_factory=list)

    def score(self, requests: Sequence[Request]) -> list[Scored]:
        self.calls.append(list(requests))
        for prefix, answer in requests:
            assert prefix
            assert len(prefix) + len(answer) <= self.context + 1
        return [Scored([self._logprob(token) for token in ids], [False] * len(ids)) for _, ids in requests]

    def _logprob(self, token: int) -> float:
        return -1.0 + (self.likes.get(chr(token), 0.0) if token < END else 0.0)

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        raise AssertionError("nothing is generated")


@dataclass
class Rows:
    held: list[Document]

    def documents(self, split: str, columns: frozenset[str] = frozenset({"text"})) -> Iterator[Document]:
        assert columns == {"chosen", "rejected"}
        yield from self.held if split == "validation" else ()


def pairs(*answers: tuple[str, str]) -> Rows:
    return Rows(
        [Document(id=f"p/{n}", prompt="Well?", chosen=chosen, rejected=no) for n, (chosen, no) in enumerate(answers)]
    )


def scores(
    rows: Rows, handle: Taste | None = None, limit: int | None = None, tokenizer: Bytes | None = None, batch: int = 2
) -> dict[str, Score]:
    part = Preference(PreferenceConfig(batch=batch))
    return {score.name: score for score in part.run(handle or Taste(), tokenizer or Bytes(), data=rows, limit=limit)}


def test_it_is_an_evaluator() -> None:
    assert isinstance(Preference(PreferenceConfig()), Evaluator)
    (component,) = lmgraft_evaluator()
    assert len(component.summary) <= 72
    assert PreferenceConfig().needs() == {"columns:chosen", "columns:rejected", "split:validation"}


def test_the_likelier_answer_wins_and_ties_count_half() -> None:
    rows = pairs(("good x", "bad"), ("bad x", "good y"), ("same", "size"), ("xxxx", "long and sad"))
    found = scores(rows, Taste({"x": 6.0}))
    summed = found["preference_accuracy"]
    assert summed.value == (2 + 1 + 0.5) / 4  # "bad x" is worth an x, too
    assert (summed.detail["pairs"], summed.detail["ties"]) == (4, 1)
    assert not summed.reference
    assert summed.higher_is_better


def test_a_mean_is_not_won_by_being_short() -> None:
    # One nat a token: in sums the short answer wins, in means nobody does.
    found = scores(pairs(("a", "a longer one"), ("b", "another"), ("the long one", "c")))
    assert found["preference_accuracy"].value == 2 / 3
    assert found["preference_accuracy_per_token"].value == 1 / 2
    assert found["preference_accuracy_per_token"].detail["ties"] == 3


class Even(Taste):
    def _logprob(self, token: int) -> float:
        return -0.9


def test_equal_means_are_ties_whatever_rounding_makes_of_them() -> None:
    """0.9 nats a token: the sum over 7 divided by 7 is not, in the last bit, the sum over 3 divided by 3."""
    lengths = [(first, second) for first in range(1, 9) for second in range(1, 9) if first != second]
    found = scores(pairs(*(("a" * first, "b" * second) for first, second in lengths)), Even())
    assert found["preference_accuracy_per_token"].detail["ties"] == len(lengths)


def test_the_rule_of_length_takes_its_better_direction() -> None:
    rows = pairs(("aaaa", "b"), ("aaa", "b"), ("a", "bb"), ("aa", "bb"), ("aa", "b"))
    rule = scores(rows)["length_accuracy"]
    assert rule.reference
    assert rule.value == 3.5 / 5
    assert (rule.detail["rule"], rule.detail["longer"], rule.detail["shorter"]) == ("the longer answer", 0.7, 0.3)
    turned = Rows([Document(id=d.id, prompt=d.prompt, chosen=d.rejected, rejected=d.chosen) for d in rows.held])
    other = scores(turned)["length_accuracy"]
    assert other.value == 3.5 / 5
    assert other.detail["rule"] == "the shorter answer"


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    prompt = len(chat.encode_prompt([{"role": "user", "content": "Well?"}], Bytes(), "solar"))
    rows = pairs(("ab", "c"), ("a" * 21, "b"), ("b", "a" * 20), ("b", "a" * 400))
    found = scores(rows, Taste(context=prompt + 20))  # 20 letters and the end token, which is never read
    detail = found["preference_accuracy"].detail
    assert (detail["pairs"], detail["overlong"]) == (2, 2)
    assert found["length_accuracy"].detail["pairs"] == 2


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_calls_change_no_score(batch: int) -> None:
    rows = pairs(*((f"{n}", f"{n * n} no") for n in range(7)))
    assert scores(rows, batch=batch) == scores(rows, batch=2)


def test_limit_counts_pairs() -> None:
    rows = pairs(*((f"{n}", "no") for n in range(7)))
    assert scores(rows, limit=3)["preference_accuracy"].detail["pairs"] == 3


def test_the_model_reads_its_own_template_and_the_end_token_counts() -> None:
    handle = Taste()
    scores(pairs(("yes", "no")), handle)
    own = "{% for m in messages %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' else '|' }}{% endfor %}"
    scores(pairs(("yes", "no")), handle, tokenizer=Bytes(own))
    solar, theirs = (call[0] for call in handle.calls)
    assert Bytes().decode(solar[0]) == "### User:\nWell?\n\n### Assistant:\n"
    assert Bytes().decode(theirs[0]) == "Well?|"
    assert solar[1] == [*b"yes", END]
    assert theirs[1] == [*b"yes", END]


def test_a_conversation_may_stand_for_the_prompt() -> None:
    talk = [
        {"role": "user", "content": "Hm?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
    ]
    handle = Taste()
    scores(Rows([Document(id="t", messages=talk, chosen="yes", rejected="no")]), handle)
    (chosen, rejected) = handle.calls[0]
    assert chosen[0] == rejected[0]
    assert Bytes().decode(chosen[0]).endswith("So.\n\n### User:\nAnd?\n\n### Assistant:\n")
    assert [Bytes().decode(answer) for _, answer in (chosen, rejected)] == ["yes", "no"]


def test_the_digest_is_of_the_pairs() -> None:
    def digest(rows: Rows) -> str:
        return str(scores(rows)["preference_accuracy"].detail["sha256"])

    one = digest(pairs(("a", "b"), ("c", "d")))
    assert digest(pairs(("a", "b"), ("c", "d"))) == one
    assert digest(pairs(("c", "d"), ("a", "b"))) != one
    assert digest(Rows([Document(id="p/0", prompt="Ill?", chosen="a", rejected="b"), *pairs(("c", "d")).held])) != one


@pytest.mark.parametrize(
    ("rows", "handle", "says"),
    [
        (Rows([]), Taste(), "no held-out pair"),
        (pairs(("a" * 300, "b")), Taste(), "longer than the model's context of 200"),
        (pairs(("a", "a")), Taste(), "row 'p/0' chooses between two equal answers"),
        (pairs(("a", " ")), Taste(), "row 'p/0' has no rejected"),
        (Rows([Document(id="x", chosen="a", rejected="b")]), Taste(), "row 'x' has no prompt"),
        (
            Rows([Document(id="y", messages=[{"role": "tool", "content": "?"}], chosen="a", rejected="b")]),
            Taste(),
            "row 'y': the chat template cannot write",
        ),
    ],
)
def test_what_cannot_be_asked_is_said(rows: Rows, handle: Taste, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        scores(rows, handle)
    assert len(str(caught.value).splitlines()) == 3


def test_bad_settings_are_told() -> None:
    assert list(PreferenceConfig().check()) == []
    assert list(PreferenceConfig(template="{{ messages }}").check()) == []
    assert [text.split()[0] for text in PreferenceConfig(template="sola", batch=0).check()] == ["template", "batch"]


@given(st.integers(1, 400), st.integers(0, 800))
def test_wilson_solves_its_equation(count: int, halves: int) -> None:
    """The bounds are where a score test of that share is just not rejected: |p - w| = z sqrt(w (1 - w) / n)."""
    won = min(halves / 2, count)
    share = won / count
    for bound in wilson(won, count):
        assert abs(share - bound) == pytest.approx(Z95 * (bound * (1 - bound) / count) ** 0.5, abs=1e-6)


def test_wilson_of_known_figures() -> None:
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
