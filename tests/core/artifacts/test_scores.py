"""scores.json and samples.json: written deterministically, read back whole, refused where they are malformed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts.scores import SampleRow, ScoreRow, read, read_samples, verify, write
from lmgraft.errors import UserError


def score(value: float, **detail: Any) -> ScoreRow:
    return ScoreRow(
        stage="pretrain",
        evaluator="perplexity",
        name="bits_per_byte",
        value=value,
        unit="bits/byte",
        reference=False,
        higher_is_better=False,
        detail=detail,
    )


SCORES = [score(0.1 + 0.2, window=8, documents=3), score(2.5)]
SAMPLES = [
    SampleRow(stage="pretrain", prompt="Once", text=" upon a 漢字\n", finished=False, longest_copy=4),
    SampleRow(stage="pretrain", prompt="", text="", finished=True, longest_copy=None),
]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, SCORES, SAMPLES)
    assert read(tmp_path) == SCORES
    assert read(tmp_path / "scores.json") == SCORES
    assert read_samples(tmp_path) == SAMPLES
    assert verify(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.json", "scores.json"]


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name, row in (("a", score(0.1 + 0.2, x=1, y=2)), ("b", score(0.1 + 0.2, y=2, x=1))):
        (tmp_path / name).mkdir()
        write(tmp_path / name, [row], SAMPLES)
    assert (tmp_path / "a/scores.json").read_bytes() == (tmp_path / "b/scores.json").read_bytes()
    assert b"0.30000000000000004" in (tmp_path / "a/scores.json").read_bytes()
    assert "漢字".encode() in (tmp_path / "a/samples.json").read_bytes()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_stay_strict_json(tmp_path: Path, value: float) -> None:
    write(tmp_path, [score(value, worst=[value])], [])

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    (back,) = read(tmp_path)
    assert back["value"] == value or (math.isnan(back["value"]) and math.isnan(value))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "no JSON"),
        ("{}", "no list of records"),
        ("[1]", "no list of records"),
        ('[{"stage": "a"}]', "record 1 has the keys stage, not detail, evaluator"),
        (json.dumps([SCORES[0] | {"more": 1}]), "record 1 has the keys .*more"),
        (json.dumps([SCORES[0], SCORES[0] | {"value": "much"}]), "record 2: value is 'much'"),
        (json.dumps([SCORES[0] | {"value": True}]), "record 1: value is True"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, cause: str) -> None:
    write(tmp_path, [], [])
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=cause) as caught:
        read(tmp_path)
    assert "scores.json cannot be read" in str(caught.value)
    assert len(verify(tmp_path)) == 1


def test_a_missing_file_is_a_problem_and_not_a_traceback(tmp_path: Path) -> None:
    problems = verify(tmp_path)
    assert len(problems) == 2
    assert "scores.json" in problems[0]
    assert "samples.json" in problems[1]
