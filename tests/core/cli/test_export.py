"""``lmgraft export`` on real folders, through the real command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmgraft import known, loading
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.testing.models import contents, write_llama
from third_party import Distribution, component, module
from warm_cli import WarmCli, wait_for

RUN: dict[str, Any] = {
    "recipe_name": "my_recipe",
    "stages": {"corpus": {"kind": "corpus"}, "pretrain": {"kind": "train"}, "sft": {"kind": "train"}},
    "components": [
        {"stage": "corpus", "slot": "", "seam": "stage", "name": "corpus"},
        {"stage": "corpus", "slot": "sources.files", "seam": "data_source", "name": "files"},
        {"stage": "corpus", "slot": "sources.python_docs", "seam": "data_source", "name": "python_docs"},
        {"stage": "pretrain", "slot": "", "seam": "stage", "name": "train"},
        {"stage": "pretrain", "slot": "optimizer", "seam": "optimizer", "name": "adamw"},
        {"stage": "sft", "slot": "", "seam": "stage", "name": "train"},
        {"stage": "sft", "slot": "optimizer", "seam": "optimizer", "name": "gone"},
    ],
    "scores": [
        {"stage": stage, "evaluator": "perplexity", "name": "bits_per_byte", "value": value, "unit": "bits/byte",
         "reference": False, "higher_is_better": False, "detail": {}, "evaluate_stage": "evaluate"}
        for stage, value in (("pretrain", 1.25), ("sft", 1.5))
    ],
    "environment": {"lmgraft": "0.1.0", "versions": {"torch": "2.99"}},
    "recipe": {
        "corpus": {"fallback": ["python_docs"], "validation_bytes": 77, "workers": 3, "max_bytes": None,
                   "sources": {"files": {"path": None}, "python_docs": {"tests": True, "installed": []}}},
        "pretrain": {"steps": 500, "data": "corpus", "log_every": 9, "optimizer": {"lr": 0.25}},
        "sft": {"steps": 60, "model": "pretrain", "data": "corpus"},
    },
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_llama(tmp_path / "model", layers=2, hidden=16)
    for number, stage in enumerate(("pretrain", "sft")):
        write_llama(tmp_path / "run" / "stages" / stage, layers=2 + number, hidden=16)
    (tmp_path / "run" / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def test_a_model_folder(cli: WarmCli, place: Path) -> None:
    before = contents(place / "model")
    done = cli(["export", "hf", "model", "new/out", "--dtype", "bfloat16", "--license", "mit"], place).check()
    assert contents(place / "model") == before
    out = place / "new" / "out"
    assert sorted(path.name for path in (place / "new").iterdir()) == ["out"]
    assert {header.dtype for header in checkpoint.headers(out).values()} == {"BF16"}
    assert "license: mit" in (out / "README.md").read_text()
    assert "new/out: " in done.out
    assert "model.safetensors" in done.out


def test_a_run_tells_of_its_last_model_and_a_stage_of_its_own(cli: WarmCli, place: Path) -> None:
    cli(["export", "hf", "run", "last", "--language", "en", "--language", "de"], place).check()
    text = (place / "last" / "README.md").read_text()
    assert "# my\\_recipe" in text
    assert checkpoint.read_config(place / "last")["num_hidden_layers"] == 3
    assert "1.5 bits/byte" in text
    assert "1.25" not in text
    for told in ('"steps": 500', '"steps": 60', '"lr": 0.25', "torch 2.99", "- en\n- de", "PSF-2.0", "gone"):
        assert told in text, told
    assert "| files |" not in text  # it had nothing to read
    for place_or_pace in ("workers", "log_every", '"path"'):
        assert place_or_pace not in text
    cli(["export", "hf", "run:pretrain", "one", "--name", "mine"], place).check()
    text = (place / "one" / "README.md").read_text()
    assert "# mine" in text
    assert "1.25 bits/byte" in text
    assert '"steps": 60' not in text


def test_the_same_command_writes_the_same_bytes(cli: WarmCli, place: Path) -> None:
    for out in ("one", "two"):
        cli(["export", "hf", "run", out], place).check()
    assert contents(place / "one") == contents(place / "two")


def test_gguf(cli: WarmCli, place: Path) -> None:
    pytest.importorskip("gguf")
    (place / "here").mkdir()
    cli(["export", "gguf", "model", "here", "--type", "f32"], place).check()
    assert [path.name for path in (place / "here").iterdir()] == ["model-f32.gguf"]


def test_help(cli: WarmCli, tmp_path: Path) -> None:
    assert "Formats:" in (text := cli(["export", "--help"], tmp_path).check().out)
    assert "hf " in text
    text = cli(["export", "hf", "--help"], tmp_path).check().out
    for word in ("--dtype", "--shard-mb", "--no-card", "--license", "--language", "lmgraft export hf MODEL OUT"):
        assert word in text, word


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["hf"], ["wants two folders", "none is named"]),
        (["hf", "model"], ["only model is named"]),
        (["hf", "model", "a", "b"], ["3 are named"]),
        (["hff", "model", "out"], ["no exporter named 'hff'", "did you mean hf"]),
        (["hf", "nowhere", "out"], ["nowhere holds no model"]),
        (["hf", "org/name", "out"], ["hf download org/name"]),
        (["hf", "run:pretrian", "out"], ["no stage pretrian", "run:pretrain"]),
        (["hf", "run:corpus", "out"], ["holds nothing yet"]),
        (["hf", "model", "model"], ["OUT is the model itself"]),
        (["hf", "model", "model/out"], ["lies within model"]),
        (["hf", "model", "run"], ["run is there already"]),
        (["hf", "model", "out", "--shard-mb", "0"], ["--shard-mb"]),
        (["hf", "model", "out", "--dtype", "int8"], ["--dtype", "float32"]),
        (["hf", "model", "out", "--license", " "], ["--license"]),
        (["hf", "model", "out", "--language", "a b"], ["--language", "en, de"]),
        (
            ["hf", "model", "out", "--language", "english"],
            ["--language english is no", "this one is en", "try: --language en"],
        ),
        (["gguf", "bare", "out"], ["tokenizer.json is missing"]),
    ],
)
def test_bad_input_is_three_lines_and_nothing_is_written(
    cli: WarmCli, place: Path, args: list[str], says: list[str]
) -> None:
    if args[0] == "gguf":
        pytest.importorskip("gguf")
    write_llama(place / "bare", layers=1)
    (place / "bare" / "tokenizer.json").unlink()
    before = sorted(place.rglob("*"))
    problem = cli(["export", *args], place).problem()
    assert len(problem.splitlines()) == 3, problem
    for text in says:
        assert text in problem
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"stages": {"sft": 3}}', '{"stages": [1]}'])
def test_a_run_json_that_is_none(place: Path, text: str) -> None:
    (place / "run" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run.json cannot be read"):
        loading.model_folder(place / "run")


def _spoilt(value: Any, bad: Any) -> Iterator[Any]:
    """``value`` with ``bad`` in the place of each thing in it."""
    yield bad
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        for inner in _spoilt(value[key], bad):
            copy = value.copy()
            copy[key] = inner
            yield copy


@pytest.mark.parametrize("bad", [None, 3, "x", [3], {"x": 3}], ids=str)
def test_a_run_json_that_was_edited_tells_less(bad: Any) -> None:
    for key in RUN:
        for value in _spoilt(RUN[key], bad):
            data = {**RUN, key: value}
            found = known.lineage(known.from_run(data), "sft")
            known.stages(found)
            known.sources(found, {})
            known.scores(data, "sft")
            assert all(isinstance(version, str) for version in known.versions(data).values())


def test_a_full_disk_leaves_nothing_behind(cli: WarmCli, place: Path) -> None:
    pytest.importorskip("gguf")
    (place / "empty").mkdir()
    for kind in ("hf", "gguf"):
        for out in ("new/deeper/out", "empty"):
            done = cli(["export", kind, "model", out], place, file_bytes=5_000)
            assert f"{out} cannot be written" in done.problem()
            assert sorted(path.name for path in place.iterdir()) == ["empty", "model", "run"]
            assert not os.listdir(place / "empty")


SLOW = """
import time


class Slow:
    def __init__(self, config):
        pass

    def export(self, model, out):
        self.export_informed(model, out, None)

    def export_informed(self, model, out, known, progress=lambda done, total: None):
        (out / "begun").touch()
        for step in range(600):
            time.sleep(0.1)
            progress(step, 600)
"""


def test_a_stopped_export_leaves_nothing(cli: WarmCli, place: Path) -> None:
    source = module("exporter", component("slow", "export_slow.slow:Slow"))
    files = {"export_slow/__init__.py": "", "export_slow/plugin.py": source, "export_slow/slow.py": SLOW}
    Distribution("export-slow", files, {"exporter": {"slow": "export_slow.plugin"}}).unpack(place / "site")
    command = cli.start(["export", "slow", "model", "out"], place, path=[str(place / "site")])
    wait_for((place / "out.partial" / "begun").exists, command)
    assert "out.partial is there already" in cli(["export", "hf", "model", "out"], place).problem()
    command.kill(signal.SIGTERM)
    done = command.finish()
    assert done.code == 75
    assert not (place / "out.partial").exists()
    assert not (place / "out").exists()
