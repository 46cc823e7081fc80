"""Which tokens are learnt, which rows are refused, and sums that no split, padding or order changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmgraft import chat
from lmgraft.artifacts.tokenizer import SavedTokenizer, copy, load, set_chat_template
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Objective
from lmgraft.training.loader import NOTHING
from lmgraft_sft.objective import SFT
from lmgraft_sft.plugin import SFTConfig, lmgraft_objective

END = "<|endoftext|>"


def row(name: str, *turns: str) -> Document:
    """The turns of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    return Document(id=name, messages=messages)


ROWS = [
    row("a", "Two and two?", "Four."),
    row("b", "Name a colour, please, any that you like.", "Blue"),
    row("c", "Hm?", "A longer answer than the others, with a comma.", "And?", "No."),
    row("d", "?", "!"),
    row("e", "Say it twice", "it it"),
]


def test_it_is_an_objective() -> None:
    assert isinstance(SFT(SFTConfig()), Objective)
    (component,) = lmgraft_objective()
    assert len(component.summary) <= 72
    assert SFT(SFTConfig()).asks == {"logprob", "greedy"}
    assert SFTConfig().needs() == {"columns:messages"}
    assert SFT(SFTConfig()).columns() == {"messages"}


@pytest.mark.parametrize("template", ["solar", "alpaca", "chatml"])
def test_every_answer_weighs_with_its_end_token_and_nothing_else_does(template: str, saved: SavedTokenizer) -> None:
    (example,) = SFT(SFTConfig(template=template)).encode(ROWS[2], saved)
    learnt = [token for token, weight in zip(example.tokens, example.weights, strict=True) if weight]
    assert saved.decode(learnt) == f"A longer answer than the others, with a comma.{END}No.{END}"
    assert set(example.weights) == {0.0, 1.0}
    assert example.tokens[-1] == saved.end_id != saved.pad_id


def test_null_takes_the_template_that_the_model_carries(
    saved: SavedTokenizer, vocabulary: Path, tmp_path: Path
) -> None:
    own = "{% for m in messages %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' else '|' }}{% endfor %}"
    copy(vocabulary, tmp_path)
    set_chat_template(tmp_path, own)
    carrying, objective = load(tmp_path), SFT(SFTConfig(template=None))
    assert objective.chat_template(carrying) == own
    (example,) = objective.encode(ROWS[0], carrying)
    assert carrying.decode(example.tokens) == f"Two and two?|Four.{END}"
    with pytest.raises(UserError, match="sft has no chat template") as caught:
        objective.encode(ROWS[0], saved)
    assert len(str(caught.value).splitlines()) == 3


def test_the_template_is_told_so_that_the_model_carries_it(saved: SavedTokenizer) -> None:
    assert SFT(SFTConfig()).chat_template(saved) == chat.TEMPLATES["solar"]
    assert SFT(SFTConfig(template="{{ messages }}")).chat_template(saved) == "{{ messages }}"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (row("r/1", "Well?"), "row 'r/1' has no answer to learn"),
        (row("r/2", "Well?", ""), "row 'r/2' has no answer to learn"),
        (row("r/3", "Well?", "Yes.", "And?", " \n"), "row 'r/3' has no answer to learn"),
        (Document(id="r/4", messages=[]), "row 'r/4' has no answer to learn"),
        (
            Document(id="r/5", messages=[{"role": "tool", "content": "?"}, {"role": "assistant", "content": "!"}]),
            "row 'r/5': the chat template cannot write this conversation",
        ),
    ],
)
def test_a_row_without_an_answer_is_refused_by_name(document: Document, says: str, saved: SavedTokenizer) -> None:
    with pytest.raises(UserError, match=says) as caught:
        SFT(SFTConfig()).encode(document, saved)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m['content'] }}|{% endfor %}", "closes no answer with the end token"),
        ("{{ messages[0]['content'] }}", "writes nothing of its answers"),
    ],
)
def test_a_template_that_cannot_teach_is_refused(template: str, says: str, saved: SavedTokenizer) -> None:
    with pytest.raises(UserError, match=says) as caught:
        SFT(SFTConfig(template=template)).encode(ROWS[0], saved)
    assert len(str(caught.value).splitlines()) == 3


def test_a_question_at_the_end_is_no_answer(saved: SavedTokenizer) -> None:
    (example,) = SFT(SFTConfig()).encode(row("q", "Well?", "Yes.", "And?"), saved)
    learnt = [token for token, weight in zip(example.tokens, example.weights, strict=True) if weight]
    assert saved.decode(learnt) == f"Yes.{END}"


def test_bad_settings_are_told() -> None:
    for good in ("solar", "chatml", "{{ messages }}", None):
        assert list(SFTConfig(template=good).check()) == []
    assert "template is 'sola'" in str(next(iter(SFTConfig(template="sola").check())))


def test_sums_and_their_total() -> None:
    batch = Batch(
        tokens=torch.zeros(2, 3, dtype=torch.int64),
        targets=torch.tensor([[4, 5, 6], [7, -1, -1]]),
        weights=torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),  # careless: it weighs what has no target
        positions=torch.arange(3).expand(2, 3),
    )
    logprob = torch.tensor([[-8.0, -1.0, -2.0], [-0.5, -9.0, -9.0]])
    greedy = torch.tensor([[True, False, True], [True, True, True]])
    objective = SFT(SFTConfig())
    loss = objective.loss(Outputs(logprob=logprob, greedy=greedy), batch, {})
    assert objective.normalizers(batch) == {"answers": 3.0}
    assert loss.terms.keys() == {"answers"}
    assert float(loss.terms["answers"]) == 3.5
    assert loss.metrics == {"accuracy": (2.0, 3.0)}


@pytest.mark.parametrize(
    "split",
    [
        [[4, 3, 2, 1, 0]],
        [[0], [1, 2, 3], [4]],
        [[2], [0], [4], [3], [1]],
        [[0, NOTHING, 1], [NOTHING], [2, 3, 4, NOTHING]],
    ],
    ids=["order", "uneven", "single", "padding rows"],
)
def test_split_order_and_padding_change_no_gradient(
    split: list[list[int]], encoded: Any, engine: Any, llama: Path
) -> None:
    objective = SFT(SFTConfig())
    rows = encoded(objective, ROWS)
    whole, parts = engine(llama, objective), engine(llama, objective)
    one = whole.forward_backward([rows.batch(np.arange(5))])
    other = parts.forward_backward([rows.batch(np.array(units)) for units in split])
    assert other.loss == pytest.approx(one.loss, rel=1e-6)
    assert other.metrics == pytest.approx(one.metrics, rel=1e-6)
    expected = dict(whole._module.named_parameters())
    for name, parameter in parts._module.named_parameters():
        gradient = expected[name].grad
        assert float((parameter.grad - gradient).abs().max() / gradient.abs().max()) < 1e-5
