"""``KEY={}`` empties a mapping of settings that a recipe fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmgraft import compose, recipe

RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@more: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - _self_
stages: [corpus, tokenizer, tokens, more, pretrain]
corpus: {sources: {files: {path: PLACE}}}
pretrain: {steps: 1, more_data: [more], data_weights: {tokens: 0.5, more: 0.5}}
"""


def composed(folder: Path, *overrides: str) -> Any:
    (folder / "texts.txt").write_text("One text.")
    (folder / "r.yaml").write_text(RECIPE.replace("PLACE", str(folder / "texts.txt")))
    found = compose.resolve(str(folder / "r.yaml"))
    return recipe.read(compose.compose(found, list(overrides)), found.name)


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        ([], {"tokens": 0.5, "more": 0.5}),
        (["pretrain.data_weights={}"], {}),
        (["++pretrain.data_weights={}"], {}),
        (["pretrain.more_data=[]", "pretrain.data_weights={}"], {}),
        (["pretrain.data_weights={tokens:1}"], {"tokens": 1.0, "more": 0.5}),
        (["pretrain.data_weights={}", "pretrain.data_weights={tokens:1,more:3}"], {"tokens": 1.0, "more": 3.0}),
        (
            ["pretrain.data_weights.tokens=7", "pretrain.data_weights={}", "pretrain.data_weights.more=0",
             "pretrain.data_weights.tokens=2"],
            {"more": 0.0, "tokens": 2.0},
        ),
        (["pretrain.data_weights={}", "pretrain={steps: 2, data_weights: {tokens: 1, more: 3}}"],
         {"tokens": 1.0, "more": 3.0}),
        (["pretrain.data_weights={}", "pretrain={steps: 2}"], {}),
        (["pretrain={data_weights: {tokens: 1}}", "pretrain.data_weights={}"], {}),
    ],
)  # fmt: skip
def test_an_empty_mapping_takes_what_was_set_before_it(
    tmp_path: Path, overrides: list[str], left: dict[str, float]
) -> None:
    assert composed(tmp_path, *overrides).stage("pretrain").config.data_weights == left


@pytest.mark.parametrize("override", ["corpus.sources={}", "pretrain.optimizer={}", "pretrain={}"])
def test_parts_and_nodes_of_settings_stay(tmp_path: Path, override: str) -> None:
    found = composed(tmp_path, override)
    assert list(found.stage("corpus").config.sources) == ["files"]
    assert found.stage("pretrain").config.optimizer is not None
    assert found.stage("pretrain").config.steps == 1
