"""``lmgraft plugins check``: what it prints, how it ends, and what it is told wrong. The kit itself: tests/contract."""

from __future__ import annotations

import json
from pathlib import Path

from warm_cli import WarmCli


def test_each_check_has_a_line_that_says_what_it_holds_the_part_to(cli: WarmCli, tmp_path: Path) -> None:
    said = cli(["plugins", "check", "LMGraft", "--part", "length"], tmp_path).check().out
    lines = said.splitlines()
    assert lines[0].startswith("filter length, by ")
    assert "  ok     order and length: one verdict for each document, in order" in lines
    assert any(line.startswith("  -      version cap: a first-party part") for line in lines)
    assert lines[-1].startswith("lmgraft 0.1.0: 1 part, ")
    assert " 0 failed, " in lines[-1]
    assert not list(tmp_path.iterdir())


def test_json_holds_one_object_a_check(cli: WarmCli, tmp_path: Path) -> None:
    out = cli(["plugins", "check", "lmgraft", "--part", "length", "--only", "config", "--json"], tmp_path).check().out
    rows = json.loads(out)
    assert [(row["seam"], row["part"], row["check"], row["state"]) for row in rows] == [
        ("filter", "length", "test_config_pickles", "passed"),
        ("filter", "length", "test_config_unchanged_by_use", "passed"),
    ]


def test_what_is_not_there_is_said(cli: WarmCli, tmp_path: Path) -> None:
    check = ["plugins", "check"]
    assert "lmgarft brings no part" in cli([*check, "lmgarft"], tmp_path).problem()
    assert "did you mean lmgraft?" in cli([*check, "lmgarft"], tmp_path).problem()
    assert "lmgraft has no part 'lenght'" in cli([*check, "lmgraft", "--part", "lenght"], tmp_path).problem()
    missing = cli([*check, "lmgraft", "--part", "length", "--only", "nothing"], tmp_path).problem()
    assert "no check of lmgraft has 'nothing' in its name" in missing
    # A library that brings neither parts nor recipes.
    assert "it is installed, and names no module" in cli([*check, "pluggy"], tmp_path).problem()
    assert "it is not installed" in cli([*check, ""], tmp_path).problem()
    assert "it is a part of lmgraft" in cli([*check, "length"], tmp_path).problem()


def test_a_variant_is_shown_with_its_part(cli: WarmCli, tmp_path: Path) -> None:
    assert "variants  llama/tiny, " in cli(["plugins", "show", "llama/tiny"], tmp_path).check().out
    assert "did you mean tiny?" in cli(["plugins", "show", "llama/tinny"], tmp_path).problem()
    shown = cli(["plugins", "show", "perplexity"], tmp_path).check().out
    assert "needs     columns:text, split:validation" in shown
    assert "train | validation" in shown or "validation | train" in shown
