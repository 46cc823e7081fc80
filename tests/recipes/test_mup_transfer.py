"""The recipe ``mup_transfer`` in the small: its sweep composes as a whole; a tiny part of it runs and is drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SMALL = [
    "corpus.max_bytes=300_000", "corpus.validation_bytes=20_000", "corpus.workers=1",
    "tokenizer.tokenizer.vocab_size=300", "pretrain.steps=4", "pretrain.batch=2", "pretrain.seq_len=32",
    "evaluate.limit=4",
]  # fmt: skip


def lmgraft(folder: Path, *args: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_whole_sweep_composes(tmp_path: Path) -> None:
    said = lmgraft(tmp_path, "lmgraft", "run", "mup_transfer", "--multirun", "--dry-run")
    assert "56 jobs, all checked" in said
    for width in ("w64", "w128", "w256", "w512"):
        assert said.count(f"width={width}") == 14
    assert said.count("initializer@pretrain.initializer=normal") == 28


def test_a_part_of_it_runs_and_is_drawn(tmp_path: Path) -> None:
    swept = ["width=w64,w128", "pretrain.optimizer.lr=1e-3,4e-3", "run.dir=sweep"]
    lmgraft(tmp_path, "lmgraft", "run", "mup_transfer", "--multirun", "--quiet", *swept, *SMALL)
    runs = [json.loads(file.read_text()) for file in sorted((tmp_path / "sweep").glob("*/run.json"))]
    assert len(runs) == 8
    scores: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        name = next(part["name"] for part in run["components"] if part["seam"] == "initializer")
        bits = next(row["value"] for row in run["scores"] if row["name"] == "bits_per_byte")
        scores.setdefault((name, run["recipe"]["pretrain"]["architecture"]["hidden"]), []).append(bits)
    assert scores["mup", 64] == scores["normal", 64]  # the base
    assert scores["mup", 128] != scores["normal", 128]
    said = lmgraft(tmp_path, "lmgraft_mup.transfer", "sweep", "plot.svg")
    assert said.count("from width 64 to 128 the best learning rate moves by") == 2
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
