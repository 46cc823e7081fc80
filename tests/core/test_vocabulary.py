"""Text that a vocabulary can be learnt from, and the settings that tokenizers share."""

from __future__ import annotations

import re
import time

import pytest
from lmgraft.chat import TEMPLATES
from lmgraft.errors import UserError
from lmgraft.vocabulary import (
    CUT,
    LONGEST,
    check_chat_template,
    check_special_tokens,
    learnable,
    tokenizer_config,
)


def refused(texts: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        list(learnable(texts, "mine"))
    (problem,) = caught.value.problems
    assert len(str(problem).splitlines()) == 3
    assert "tokenizer mine" in problem.fact
    return problem.fact


def test_ordinary_text_passes_unchanged() -> None:
    texts = ["a text", "", "another\n\nwith lines " * 3000, "\u6f22\u5b57\u3002" * 5000]
    assert list(learnable(texts, "mine")) == [text for text in texts if text]


@pytest.mark.parametrize("letter", ["a", " ", "-", "\n", "\u6f22"])
def test_long_runs_are_cut(letter: str) -> None:
    text = "before 1 " + letter * (3 * CUT + 7) + " x\u0301 after" + letter * (CUT + 1)
    pieces = list(learnable([text], "mine"))
    assert "".join(pieces) == text
    assert len(pieces) == 5
    runs = [run for piece in pieces for run in re.findall(rf"{re.escape(letter)}+", piece)]
    assert max(map(len, runs)) == CUT


def test_the_run_that_is_just_short_enough_stays_whole() -> None:
    assert list(learnable([f"x {'a' * CUT} y"], "mine")) == [f"x {'a' * CUT} y"]


def test_a_word_without_an_end_is_refused_at_once() -> None:
    begun = time.process_time()
    assert f"a word of {200 << 20:,} characters" in refused(["fine", "a" * (200 << 20)])
    assert time.process_time() - begun < 20
    assert "text 1" in refused([" " * (LONGEST + 1)])
    assert list(learnable(["a" * LONGEST], "mine"))


def test_many_runs_just_below_the_bound_take_linear_time() -> None:
    text = ("a" * (CUT - 1) + " ") * 500
    begun = time.process_time()
    assert list(learnable([text], "mine")) == [text]
    assert time.process_time() - begun < 2


def test_half_a_character_and_no_text_are_refused() -> None:
    assert "U+D83D, half a character" in refused(["fine", "a\ud83d b"])
    assert "text 2" in refused(["fine", "\udc00"])
    assert "no text" in refused([])
    assert "no text" in refused(["", ""])


def test_special_tokens_look_like_it() -> None:
    assert list(check_special_tokens({"end_token": "<|end|>"}, ["[MASK]", "</s>", "<|\u00e9a|>"])) == []
    for token in ("the", "<>", "<||>", "[ ]", "<a b>", "<|x|> ", "[a", ""):
        (problem,) = check_special_tokens({}, [token])
        assert problem.startswith("special_tokens holds")


def test_special_tokens_differ() -> None:
    (problem,) = check_special_tokens({"end_token": "<|e|>", "pad_token": "<|e|>"})
    assert "a model could never learn to end" in problem
    assert len(list(check_special_tokens({"end_token": "<|e|>"}, ["<|e|>"]))) == 1
    (problem,) = check_special_tokens({}, ["<|e|>", "<|e|>"])
    assert "holds twice" in problem


def test_chat_templates() -> None:
    assert list(check_chat_template(None)) == list(check_chat_template("solar")) == []
    assert "nope" in next(iter(check_chat_template("nope")))
    assert "no Jinja" in next(iter(check_chat_template("{% if %}")))


def test_config_for_transformers() -> None:
    config = tokenizer_config("<e>", "<p>", more={"unk_token": "<u>"}, chat_template="solar")
    assert (config["bos_token"], config["eos_token"], config["pad_token"], config["unk_token"]) == (
        "<e>",
        "<e>",
        "<p>",
        "<u>",
    )
    assert config["chat_template"] == TEMPLATES["solar"]
    assert "chat_template" not in tokenizer_config("<e>", "<p>", more={}, chat_template=None)
