"""The recipe ``quickstart`` in the small, end to end on this Python's documentation: the files that it promises.

The score of the whole recipe is no test's business: a few steps are taken here, and the figures only have to be there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_recipe import STAGES, rows_of, run_json, statuses

pytestmark = pytest.mark.slow

SMALL = [
    "corpus.max_bytes=400_000", "corpus.validation_bytes=20_000", "corpus.workers=1",
    "tokenizer.tokenizer.vocab_size=512", "pretrain.steps=6", "pretrain.batch=2", "pretrain.seq_len=64",
    "pretrain.architecture.layers=1", "pretrain.architecture.hidden=64", "pretrain.architecture.mlp=128",
    "evaluate.limit=8", "evaluate.sample.max_new_tokens=8",
]  # fmt: skip


def lmgraft(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lmgraft", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("quickstart")
    said = lmgraft(folder, "run", "quickstart", "run.dir=run", *SMALL).stdout
    return folder / "run", said


def test_it_builds_every_stage_from_the_documentation(ran: tuple[Path, str]) -> None:
    from lmgraft.artifacts import corpus

    run, _ = ran
    assert statuses(run) == dict.fromkeys(STAGES, "ran")
    documents = next(iter(corpus.texts(run / "stages" / "corpus", "train")))
    assert len(documents) >= 200  # the filter length has been at it
    assert run_json(run)["recipe"]["corpus"]["fallback"] == ["python_docs"]


def test_it_compares_the_model_with_gzip_and_xz_of_the_same_text(ran: tuple[Path, str]) -> None:
    run, said = ran
    scores = {row["name"]: row["value"] for row in run_json(run)["scores"]}
    assert 0 < scores["xz_bits_per_byte"] < 8
    assert 0 < scores["gzip_bits_per_byte"] < 8
    assert scores["bits_per_byte"] > 0
    for name in ("bits_per_byte", "gzip_bits_per_byte (of the same data)", "xz_bits_per_byte (of the same data)"):
        assert name in said
    prompt = run_json(run)["recipe"]["evaluate"]["sample"]["prompts"][0]
    assert f"Sample of pretrain after {prompt!r}" in said
    losses = [row["loss"] for row in rows_of(run) if "loss" in row]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_its_model_is_a_folder_for_transformers(ran: tuple[Path, str]) -> None:
    model = ran[0] / "stages" / "pretrain"
    names = {file.name for file in model.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_again_everything_is_reused_and_the_model_writes(ran: tuple[Path, str]) -> None:
    run, _ = ran
    lmgraft(run.parent, "run", "quickstart", "run.dir=again", *SMALL)
    assert set(statuses(run.parent / "again").values()) == {"reused"}
    text = lmgraft(run.parent, "generate", "run", "The ", "--max-new-tokens", "4", "--device", "cpu").stdout
    assert text.startswith("The ")
