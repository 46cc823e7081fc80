"""Stages that start from one another's models are of one architecture; what differs is told before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from lmgraft import compose, recipe
from lmgraft.errors import Problem, UserError

#: An architecture in each of the later stages, which take the model's own where none is named.
SIZES = ("hidden", "heads", "context", "kv_heads", "mlp", "rope_theta")
NAMED = [
    override
    for stage in ("continued", "sft", "dpo")
    for override in (
        f"+architecture@{stage}.architecture=llama",
        f"{stage}.architecture.layers=12",
        *(f"{stage}.architecture.{size}=${{size.{size}}}" for size in SIZES),
    )
]


def problems(*overrides: str) -> list[Problem]:
    return said(*NAMED, *overrides)


def said(*overrides: str) -> list[Problem]:
    ref = compose.resolve("solar")
    try:
        recipe.read(compose.compose(ref, list(overrides)), ref.name)
    except UserError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("overrides", "facts"),
    [
        (["continued.architecture.hidden=96"], ["continued.architecture.hidden=96", "sft.architecture.hidden=192"]),
        (["pretrain.architecture.tied=true"], ["continued.architecture.tied=false"]),
        (["sft.architecture.layers=10"], ["sft.architecture.layers=10", "dpo.architecture.layers=12"]),
        (["continued.architecture.layers=10"], ["continued.architecture.layers=10", "sft.architecture.layers=12"]),
        (["continued.architecture.norm=none"], ["continued.architecture.norm=none", "sft.architecture.norm=rmsnorm"]),
    ],
)
def test_what_shapes_tensors_is_compared(overrides: list[str], facts: list[str]) -> None:
    found = problems(*overrides)
    for fact in facts:
        assert any(problem.fact.startswith(fact) for problem in found), found


def test_the_remedy_is_the_others_setting() -> None:
    (problem,) = [p for p in problems("pretrain.architecture.tied=true") if p.fact.startswith("continued")]
    assert problem.remedy == "continued.architecture.tied=true"
    assert "pretrain was made with tied=true" in problem.cause


def test_a_longer_context_is_another_setting_and_no_other_shape(tmp_path: Path) -> None:
    assert problems("dpo.architecture.context=512", "dpo.seq_len=512") == []
    tied = [f"{stage}.architecture.tied=true" for stage in ("pretrain", "continued", "sft", "dpo")]
    assert problems(*tied) == []


@pytest.mark.parametrize("named", [NAMED, []], ids=["its own architecture", "the model's"])
def test_sequences_fit_the_architecture(named: list[str]) -> None:
    (problem,) = said(*named, "sft.seq_len=512")
    assert problem.fact == "stage sft: seq_len=512"
    assert "sequences of 256 tokens" in problem.cause


def test_a_stage_needs_an_architecture_or_a_model() -> None:
    found = said("continued.model=null", "+initializer@continued.initializer=normal")
    assert [problem.fact for problem in found] == ["continued.architecture is empty"]


def test_numbers_are_finite() -> None:
    for value in ("nan", "inf"):
        assert any(p.fact == f"dpo.objective.beta is {value}" for p in problems(f"dpo.objective.beta={value}"))


def test_a_source_that_is_not_read_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text('{"conversations": []}\n')
    found = problems(f"pairs.path={tmp_path / 'chats.jsonl'}", "pairs.rows=sharegpt")
    assert any("dpo needs columns:chosen" in problem.fact for problem in found), found


def test_a_choice_that_is_referred_to_lists_what_there_is() -> None:
    (problem,) = problems("instructions.rows=foo")
    assert (
        problem.remedy
        == "instructions.rows=NAME, one of text, messages, alpaca, belle, sharegpt, pairs, judged, kto, hh"
    )


def test_a_size_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(UserError) as caught:
        compose.compose(compose.resolve("solar"), ["size=huge"])
    assert caught.value.problems[0].remedy == "choose one of 7b, tiny"
