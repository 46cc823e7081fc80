"""Swapping a part on the command line in a recipe that sets values of the one it was written with."""

from __future__ import annotations

from pathlib import Path

import pytest
from lmgraft import compose, recipe
from lmgraft.errors import UserError
from tiny_recipe import RECIPE, write_texts
from warm_cli import WarmCli

GPT2 = "architecture@pretrain.architecture=gpt2"
NOTE = "pretrain.architecture: gpt2 has no kv_heads; what the recipe sets there for another part is left out"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_texts(tmp_path / "texts")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "one.yaml"


def read(file: Path, *overrides: str) -> recipe.Recipe:
    ref = compose.resolve(str(file))
    return recipe.read(compose.compose(ref, overrides), ref.name, ref.given)


def settings(typed: recipe.Recipe) -> dict[str, object]:
    return next(vars(part.config) for part in typed.stage("pretrain").parts if part.slot == "architecture")


def test_what_both_have_is_kept_and_the_rest_is_left_out_with_a_note(file: Path) -> None:
    assert read(file).notes == ()
    typed = read(file, GPT2)
    assert typed.notes == (NOTE,)
    assert {key: settings(typed)[key] for key in ("part", "hidden", "layers", "context")} == {
        "part": "gpt2", "hidden": 32, "layers": 2, "context": 32,
    }  # fmt: skip
    assert read(file, "objective@pretrain.objective=causal_lm").notes == ()


def test_a_key_that_was_typed_is_never_left_out(file: Path) -> None:
    with pytest.raises(UserError, match=r"there is no key pretrain\.architecture\.kv_heads"):
        read(file, GPT2, "pretrain.architecture.kv_heads=2")
    # Without a part being swapped the recipe's own mistake is told.
    file.write_text(RECIPE.replace("kv_heads: 2", "kv_haeds: 2"), encoding="utf-8")
    with pytest.raises(UserError, match=r"did you mean pretrain\.architecture\.kv_heads"):
        read(file)


def test_a_value_of_the_recipes_own_that_served_the_deselected_part_is_a_note(file: Path) -> None:
    sources = ["data_source@corpus.sources=[python_docs]"]
    assert any(note.startswith("data is set and not used") for note in read(file, *sources).notes)
    file.write_text(RECIPE.replace('path: "${data.path}", ', ""), encoding="utf-8")
    with pytest.raises(UserError, match="data is set and never used"):
        read(file)


def test_it_works_from_the_command_line_and_in_a_sweep_over_parts(cli: WarmCli, file: Path) -> None:
    assert NOTE in cli(["run", file.name, GPT2, "--dry-run"], file.parent).check().err
    sweep = ["run", file.name, "--multirun", f"{GPT2},llama", "--dry-run"]
    said = cli(sweep, file.parent).check()
    assert "2 jobs, all checked" in said.out + said.err


def test_a_layout_for_one_stage_that_the_recipe_leaves_to_the_root_is_added(file: Path) -> None:
    file.write_text(RECIPE.replace("  - parallelism@evaluate.parallelism: single\n", ""), encoding="utf-8")
    with pytest.raises(UserError, match=r"\+parallelism@evaluate\.parallelism=ddp chooses one"):
        read(file, "parallelism@evaluate.parallelism=ddp")
    assert read(file, "+parallelism@evaluate.parallelism=ddp")


def test_what_is_held_out_is_asked_for_before_any_work(file: Path) -> None:
    with pytest.raises(UserError, match=r"perplexity needs split:validation(?s:.*)validation_bytes"):
        read(file, "corpus.validation_bytes=0")


def test_a_recipe_given_by_path_is_named_by_it_in_remedies(file: Path) -> None:
    with pytest.raises(UserError, match=rf"lmgraft explain {file} pretrain\.steps"):
        read(file, "pretrain.steps=0")
