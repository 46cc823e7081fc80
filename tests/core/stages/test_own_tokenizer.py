"""A whole recipe with a third party's tokenizer that Hugging Face's library cannot express."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from letters_distribution import PART, letters
from lmgraft.errors import UserError
from lmgraft.stages.merge import _same_tokenizer
from tiny_recipe import RECIPE, digests, run_json, statuses, write_recipe
from warm_cli import WarmCli

WITH_LETTERS = (
    RECIPE.replace("tokenizer@tokenizer.tokenizer: byte_bpe", "tokenizer@tokenizer.tokenizer: letters")
    .replace("tokenizer: {vocab_size: 300}", "tokenizer: {size: 10}")
    .replace("tokens: {workers: 1}", "tokens: {workers: 3}")
    .replace("layers: 2", "layers: 5")
)


def test_a_whole_recipe(cli: WarmCli, tmp_path: Path) -> None:
    site = tmp_path / "site"
    letters().unpack(site)
    write_recipe(tmp_path, WITH_LETTERS)
    command = ["run", "tiny.yaml", "store.dir=store"]
    cli([*command, "run.dir=run"], tmp_path, path=[str(site)]).check()
    stages = tmp_path / "run/stages"
    assert set(statuses(tmp_path / "run").values()) == {"ran"}
    vocabulary = (stages / "tokenizer/letters/vocabulary.json").read_bytes()
    assert len(json.loads(vocabulary)) == 10
    for stage in ("tokens", "pretrain"):
        assert (stages / stage / "letters/vocabulary.json").read_bytes() == vocabulary
    assert json.loads((stages / "pretrain/config.json").read_text())["vocab_size"] == 2 + 256 + 10
    scores = {row["name"]: row["value"] for row in json.loads((stages / "evaluate/scores.json").read_text())}
    assert any(value > 0 for value in scores.values())
    written = cli(["generate", "run", "ab", "--max-new-tokens", "3"], tmp_path, path=[str(site)])
    assert written.code == 0, written.err
    assert cli(["store", "verify", "--dir", "store"], tmp_path, path=[str(site)]).code == 0

    # A merge takes the tokenizer's files along, and refuses models of other letters.
    merge = ["merge", "dus", "run/stages/pretrain", "--drop", "2"]
    cli([*merge[:3], "merged", *merge[3:]], tmp_path, path=[str(site)]).check()
    assert (tmp_path / "merged/letters/vocabulary.json").read_bytes() == vocabulary
    _same_tokenizer([stages / "pretrain", tmp_path / "merged"], ["one", "two"])
    (tmp_path / "merged/letters/vocabulary.json").write_text("[]")
    with pytest.raises(UserError, match="one and two cannot be merged"):
        _same_tokenizer([stages / "pretrain", tmp_path / "merged"], ["one", "two"])

    # Without the distribution a model cannot be asked, and the message says why.
    assert "needs the tokenizer 'letters'" in cli(["generate", "run", "ab"], tmp_path).problem()

    # Nothing is done twice; other code of the part encodes anew, though it saves the same vocabulary.
    cli([*command, "run.dir=again"], tmp_path, path=[str(site)]).check()
    assert set(statuses(tmp_path / "again").values()) == {"reused"}
    letters(PART + "\n# another release\n").unpack(site)
    cli([*command, "run.dir=other"], tmp_path, path=[str(site)]).check()
    assert statuses(tmp_path / "other") | {"corpus": "ran"} == dict.fromkeys(
        run_json(tmp_path / "other")["stages"], "ran"
    )
    assert digests(tmp_path / "other")["tokenizer"] != digests(tmp_path / "run")["tokenizer"]
