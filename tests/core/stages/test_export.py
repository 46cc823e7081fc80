"""The export stage in a run: what is told, what is in the key, what is made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft import api, loading
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.exporter import Known
from lmgraft.stages.export import export
from lmgraft.testing.models import write_llama
from lmgraft.testing.scenes import write_texts

RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - stage@evaluate: evaluate
  - evaluator@evaluate.evaluators: [perplexity]
  - stage@release: export
  - exporter@release.exporter: hf
  - stage@file: export
  - exporter@file.exporter: gguf
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, evaluate, release, file]
device: cpu
precision: float32
corpus: {workers: 1, validation_bytes: 2000, sources: {files: {path: TEXTS, document_bytes: 1024}}}
tokenizer: {tokenizer: {vocab_size: 300}}
pretrain:
  steps: 2
  batch: 2
  seq_len: 32
  architecture: {hidden: 16, layers: 1, heads: 2, kv_heads: 2, mlp: 32, context: 64}
evaluate: {limit: 2}
release: {model: pretrain, scores: [evaluate], licenses: {files: CC0-1.0}}
file: {model: pretrain}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("export")
    write_texts(place / "secret-place")
    (place / "small.yaml").write_text(RECIPE.replace("TEXTS", str(place / "secret-place")))
    run(place)
    return place


def run(folder: Path, *overrides: str, name: str = "run") -> api.Run:
    places = [f"run.dir={folder / name}", f"store.dir={folder / 'store'}"]
    return api.run(str(folder / "small.yaml"), [*places, *overrides], quiet=True)


def states(done: api.Run) -> dict[str, str]:
    return {name: stage["status"] for name, stage in done.data["stages"].items()}


def card(folder: Path, name: str = "run") -> str:
    return (folder / name / "stages" / "release" / "README.md").read_text(encoding="utf-8")


def test_the_card_tells_where_the_model_comes_from(folder):
    text = card(folder)
    for line in (
        "# small",
        "by the recipe `small`",
        "| files | files | CC0-1.0 |",
        "| pretrain | train | llama, causal\\_lm, adamw, cosine, normal |",
        '"steps": 2',
        "bits\\_per\\_byte",
        "The licence of this model is not known",
    ):
        assert line in text, line
    assert "secret-place" not in text
    assert "Versions" not in text  # of no artifact: it is the same whenever it is made
    assert "evaluate" not in text.split("## Data")[0]  # no stage that the model comes from
    assert checkpoint.read_config(folder / "run" / "stages" / "release")["model_type"] == "llama"
    assert sorted(path.name for path in (folder / "run" / "stages" / "file").iterdir()) == ["model-f16.gguf"]


def test_an_export_is_no_runs_last_model(folder):
    assert loading.model_folder(folder / "run") == (folder / "run" / "stages" / "pretrain").resolve()


def test_what_is_told_is_in_the_key_and_nothing_else(folder):
    """A gguf tells name, licence and languages; scores, sources and settings change the card alone."""
    again = states(run(folder, name="again"))
    assert set(again.values()) == {"reused"}
    told = states(run(folder, "release.licenses={files: MIT}", name="licence"))
    assert (told["release"], told["file"]) == ("ran", "reused")
    assert "| files | files | MIT |" in card(folder, "licence")
    named = states(run(folder, "file.name=other", "file.license=mit", name="named"))
    assert (named["release"], named["file"]) == ("reused", "ran")
    scored = states(run(folder, "evaluate.limit=1", name="scored"))
    assert (scored["evaluate"], scored["release"], scored["file"]) == ("ran", "ran", "reused")
    moved = states(run(folder, "tokens.workers=1", "pretrain.log_every=1", name="moved"))
    assert set(moved.values()) == {"reused"}


def test_without_scores_the_card_has_none(folder):
    run(folder, "release.scores=[]", name="bare")
    assert "## Scores" not in card(folder, "bare")


def test_a_secret_in_a_recipe_stays_there(folder, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "swordfish-and-more")
    run(folder, "tokenizer.tokenizer.special_tokens=['<|swordfish-and-more|>']", name="secret")
    assert "swordfish" not in card(folder, "secret")
    assert "***" in card(folder, "secret")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+release.licenses.web=MIT", ["release.licenses", "web", "files"]),
        ("release.license=''", ["license"]),
        ("release.languages=['not a code']", ["not a code", "en, de"]),
        ("release.languages=[en,German]", ["release.languages", "'German'", "this one is de"]),
        ("release.exporter.shard_mb=0", ["shard_mb"]),
        ("release.scores=[corpus]", ["release.scores", "corpus"]),
    ],
)
def test_wrong_settings_are_refused_before_any_work(folder, override, words):
    with pytest.raises(UserError) as caught:
        run(folder, override, name="refused")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (folder / "refused").exists()


class Plain:
    """An exporter with the one method that it must have."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def export(self, model: Path, out: Path) -> None:
        for name, text in self.files.items():
            (out / name).write_text(text)


def test_a_plain_exporter_is_called_and_an_idle_one_blamed(tmp_path):
    write_llama(tmp_path / "model", layers=1)
    (tmp_path / "out").mkdir()
    seen: list[tuple[int, int]] = []
    progress: Any = lambda done, total: seen.append((done, total))  # noqa: E731
    export(Plain({"a": "b"}), tmp_path / "model", tmp_path / "out", Known(), progress)
    assert (tmp_path / "out" / "a").read_text() == "b"
    assert seen[-1] == (1, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="Plain made nothing"):
        export(Plain({}), tmp_path / "model", tmp_path / "empty", Known())
    (tmp_path / "model" / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="model_type"):
        export(Plain({"a": "b"}), tmp_path / "model", tmp_path / "empty", Known())
