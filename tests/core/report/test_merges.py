"""What a merge did to the held-out loss, and what training made good, as the page tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft.report import render
from lmgraft.report.facts import gather
from lmgraft.report.merges import merges

RECIPE: dict[str, Any] = {
    "pretrain": {"kind": "train", "data": "tokens", "model": None},
    "upscale": {"kind": "merge", "models": ["pretrain"]},
    "continued": {"kind": "train", "data": "tokens", "model": "upscale"},
    "sft": {"kind": "train", "data": "instructions", "model": "continued"},
}


def run(folder: Path, recipe: dict[str, Any], losses: dict[str, list[tuple[int, float]]]) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"recipe_name": "r", "recipe": recipe, "stages": {}}))
    rows = [
        {"stage": stage, "step": step, "val_loss": loss}
        for stage, points in losses.items()
        for step, loss in points
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("after", "said", "regained"),
    [
        ([(0, 5.0), (10, 3.5), (20, 2.5)], "was back at 3 by step 20 and ended at 2.5", "125%"),
        ([(0, 5.0), (10, 4.5), (20, 4.0)], "ended at 4 after 20 steps, 1 above what it had been", "50%"),
        ([(0, 2.0), (10, 1.5)], "upscale lowered held-out loss from 3 to 2; continued ended at 1.5.", ""),
        ([(0, 3.0), (10, 1.5)], "upscale left held-out loss at 3; continued ended at 1.5.", ""),
    ],
)
def test_before_after_and_recovery(after: list[tuple[int, float]], said: str, regained: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", RECIPE, {"pretrain": [(0, 8.0), (10, 3.0)], "continued": after, "sft": [(0, 1.0)]})
    (told,) = merges(gather(folder))
    assert (told["merge"], told["stage"]) == ("upscale", "continued")
    assert (told["before"], told["after"], told["regained"]) == ("3.0000", f"{after[0][1]:.4f}", regained)
    assert said in told["said"]
    page = render(folder).read_text()
    assert 'id="merges"' in page
    assert told["said"] in page


def test_a_merge_of_several_is_beside_the_best_of_them(tmp_path: Path) -> None:
    recipe = {**RECIPE, "upscale": {"kind": "merge", "models": ["pretrain", "tuned"]}, "tuned": RECIPE["pretrain"]}
    losses = {"pretrain": [(10, 3.0)], "tuned": [(10, 2.5)], "continued": [(0, 2.8), (10, 2.4)]}
    (told,) = merges(gather(run(tmp_path / "run", recipe, losses)))
    assert told["said"].startswith("upscale raised held-out loss from 2.5 to 2.8")
    assert [line["name"] for line in told["lines"]] == ["pretrain, before", "tuned, before", "after the merge"]


def test_losses_on_other_data_do_not_compare(tmp_path: Path) -> None:
    other = {**RECIPE, "continued": {**RECIPE["continued"], "data": "more_tokens"}}
    losses = {"pretrain": [(0, 8.0), (10, 3.0)], "continued": [(0, 5.0), (10, 3.5)]}
    assert merges(gather(run(tmp_path / "run", other, losses))) == []


def test_a_run_under_way_has_no_entry_yet(tmp_path: Path) -> None:
    assert merges(gather(run(tmp_path / "run", RECIPE, {"pretrain": [(0, 8.0), (10, 3.0)]}))) == []
