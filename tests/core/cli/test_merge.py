"""``lmgraft merge`` on real folders that transformers wrote, through the real command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.tokenizer import load
from lmgraft.testing._wider import rows_kept, wider_tokenizer
from lmgraft.testing.inputs import byte_tokenizer
from lmgraft.testing.models import write_llama
from safetensors.torch import load_file
from third_party import Distribution, component, module
from warm_cli import WarmCli, wait_for


def llama(folder: Path, layers: int = 6, *, tied: bool = False, shard: str = "2KB", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor, read by the safetensors library."""
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("tied", [False, True])
def test_dus_of_a_folder_in_shards(cli: WarmCli, tmp_path: Path, tied: bool) -> None:
    model = llama(tmp_path / "in", tied=tied)
    assert len(list(model.glob("model-*.safetensors"))) > 3
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (model / name).write_text(f'{{"{name}": 1}}')
    before = contents(model)
    done = cli(["merge", "dus", "in", "new/out", "--drop", "2"], tmp_path).check()
    assert contents(model) == before
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out"]

    out, old = tmp_path / "new" / "out", weights(model)
    grown = transformers.LlamaForCausalLM.from_pretrained(out)
    assert grown.config.num_hidden_layers == len(grown.model.layers) == 8
    assert grown.config.tie_word_embeddings == tied
    assert grown.dtype == torch.bfloat16
    state = grown.state_dict()
    for new, source in enumerate([0, 1, 2, 3, 2, 3, 4, 5]):
        names = [name for name in old if name.startswith(f"model.layers.{source}.")]
        assert len(names) == 9
        for name in names:
            assert torch.equal(state[name.replace(f"layers.{source}.", f"layers.{new}.")], old[name])
    assert torch.equal(state["lm_head.weight"], old["model.embed_tokens.weight" if tied else "lm_head.weight"])
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (out / name).read_bytes() == before[name]

    size = sum(path.stat().st_size for path in out.iterdir())
    assert f"new/out: {size / 1000:.1f} kB in 0." in done.out
    assert "layers      8 (6 before)" in done.out
    counts = [sum(tensor.numel() for tensor in weights(folder).values()) for folder in (out, model)]
    assert f"parameters  {counts[0]:,} ({counts[1]:,} before)" in done.out
    assert "lmgraft generate new/out" in done.out


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", None])
def test_a_model_that_can_be_asked_is_told_how(cli: WarmCli, tmp_path: Path, name: str | None) -> None:
    """SentencePiece's own file is a tokenizer as well."""
    llama(tmp_path / "in")
    for file in [*(tmp_path / "in").glob("*token*")]:
        file.unlink()
    if name is not None:
        (tmp_path / "in" / name).write_text("{}")
    done = cli(["merge", "dus", "in", "out"], tmp_path).check()
    assert ("lmgraft generate out" in done.out) == (name is not None)


def test_the_settings_of_the_part_are_its_options(cli: WarmCli, tmp_path: Path) -> None:
    llama(tmp_path / "in")
    cli(["merge", "dus", "in", "a"], tmp_path).check()  # a quarter of 6, even and 2 at least
    cli(["merge", "dus", "--drop", "1", "in", "b", "--allow-odd"], tmp_path).check()
    cli(["merge", "dus", "in", "c", "--drop", "null"], tmp_path).check()
    assert [checkpoint.read_config(tmp_path / out)["num_hidden_layers"] for out in "abc"] == [8, 10, 8]
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    cli(["merge", "dus", "in", "link"], tmp_path).check()
    assert contents(tmp_path / "elsewhere") == contents(tmp_path / "a")


@pytest.mark.parametrize("out", ["../empty/", "."])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(cli: WarmCli, tmp_path: Path, out: str) -> None:
    """It may be a mounted disk, which cannot be renamed over, or the folder that one stands in."""
    llama(tmp_path / "in")
    empty = tmp_path / "empty"
    empty.mkdir()
    number = empty.stat().st_ino
    cli(["merge", "dus", "../in", out], empty).check()
    cli(["merge", "dus", "in", "a"], tmp_path).check()
    assert empty.stat().st_ino == number
    assert contents(empty) == contents(tmp_path / "a")


def test_help_of_a_method_lists_its_settings_with_an_example(cli: WarmCli, tmp_path: Path) -> None:
    said = " ".join(cli(["merge", "dus", "--help"], tmp_path).check().out.split())
    assert "merge dus [OPTIONS] IN... OUT" in said
    assert "--drop INTEGER m: layers that the first copy loses" in said
    assert "--allow-odd / --no-allow-odd" in said
    assert "[default: off]" in said
    assert "lmgraft merge dus MODEL OUT --drop 8" in said
    assert "dus Depth up-scaling" in " ".join(cli(["merge", "--help"], tmp_path).check().out.split())


def test_another_vocabulary(cli: WarmCli, tmp_path: Path) -> None:
    write_llama(tmp_path / "in", layers=2)
    wider_tokenizer(tmp_path / "wider")
    args = ["merge", "vocabulary_rows", "in", "out", "--tokenizer", "wider", "--rows", "subpieces"]
    done = cli(args, tmp_path).check()
    assert rows_kept(tmp_path / "in", tmp_path / "wider", tmp_path / "out") == ""
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == 263
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "wider" / name).read_bytes()
    assert "vocabulary  263 (258 before)" in done.out
    said = " ".join(cli(["merge", "vocabulary_rows", "--help"], tmp_path).check().out.split())
    assert "--tokenizer FOLDER The vocabulary of the result" in said
    assert "lmgraft merge vocabulary_rows MODEL OUT --tokenizer FOLDER" in said
    assert "--tokenizer" not in cli(["merge", "dus", "--help"], tmp_path).check().out


@pytest.mark.parametrize("pad", [None, "<|endoftext|>"])
def test_a_vocabulary_of_somebody_elses_gets_a_token_for_padding(cli: WarmCli, tmp_path: Path, pad: str | None) -> None:
    """As the stage pretrained gives it one: published tokenizers name none, or the end token."""
    write_llama(tmp_path / "in", layers=2)
    wider_tokenizer(tmp_path / "theirs")
    file = tmp_path / "theirs" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "pad_token": pad} if pad else {"eos_token": config["eos_token"]}))
    before = contents(tmp_path / "theirs")
    args = ["merge", "vocabulary_rows", "in", "out", "--tokenizer", "theirs"]
    cli(args, tmp_path).check()
    assert contents(tmp_path / "theirs") == before
    tokenizer = load(tmp_path / "out")
    assert tokenizer.pad_id != tokenizer.end_id
    assert rows_kept(tmp_path / "in", tmp_path / "out", tmp_path / "out") == ""
    told = checkpoint.read_config(tmp_path / "out")
    assert (told["pad_token_id"], told["eos_token_id"]) == (tokenizer.pad_id, tokenizer.end_id)
    cli(["merge", "vocabulary_rows", "out", "back", "--tokenizer", "theirs"], tmp_path).check()
    byte_tokenizer(tmp_path / "small")
    (tmp_path / "small" / "tokenizer_config.json").write_text(json.dumps({"eos_token": config["eos_token"]}))
    problem = cli(["merge", "vocabulary_rows", "out", "less", "--tokenizer", "small"], tmp_path).problem()
    assert problem.startswith("small lacks 5 of out's tokens")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], ["vocabulary_rows is given no tokenizer", "lmgraft merge vocabulary_rows MODEL OUT --tokenizer FOLDER"]),
        (["--tokenizer", "nowhere"], ["--tokenizer nowhere holds no tokenizer", "there is no such folder"]),
        (["--tokenizer", "."], ["holds no tokenizer.json and no tokenizer_config.json"]),
        (["--tokenizer", "wider/tokenizer.json"], ["wider/tokenizer.json is a file", "try: --tokenizer wider"]),
        (["--tokenizer", "in/config.json"], ["is a file", "try: --tokenizer FOLDER of a stage whose part is"]),
        (["--tokenizer", "run"], ["run holds no tokenizer", "try: --tokenizer run/stages/tokenizer"]),
        (["--tokenizer", "bare"], ["bare lacks 5 of wide's tokens: 'th', 'the'", "try: extend", "--drop-old"]),
    ],
)
def test_vocabularies_that_do_not_fit_are_three_lines(
    cli: WarmCli, tmp_path: Path, args: list[str], says: list[str]
) -> None:
    write_llama(tmp_path / "in", layers=2)
    wider_tokenizer(tmp_path / "wider")
    byte_tokenizer(tmp_path / "bare")
    byte_tokenizer(tmp_path / "run" / "stages" / "tokenizer")
    cli(["merge", "vocabulary_rows", "in", "wide", "--tokenizer", "wider"], tmp_path).check()
    problem = cli(["merge", "vocabulary_rows", "wide", "out", *args], tmp_path).problem()
    assert len(problem.splitlines()) == 3, problem
    for text in says:
        assert text in problem
    assert not (tmp_path / "out").exists()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["duz", "in", "out"],
            ["there is no merge named 'duz'", "installed: block_expansion, dus", "did you mean dus?"],
        ),
        (["length", "in", "out"], ["there is no merge named 'length'", "length is a filter"]),
        (["dus"], ["lacks a folder", "no folder is named", "lmgraft merge dus MODEL OUT"]),
        (["dus", "in"], ["lacks a folder", "only in is named"]),
        (["dus", "nowhere", "out"], ["nowhere holds no model", "no such folder"]),
        (["dus", "upstage/model", "out"], ["no such folder", "hf download upstage/model"]),
        (["dus", "bare", "out"], ["bare holds no model", "config.json"]),
        (["dus", "in/config.json", "out"], ["config.json is a file", "try: in"]),
        (["dus", "pickle", "out"], ["pytorch_model.bin is refused", "pickle"]),
        (["dus", "lost", "out"], ["model-00002-of-", "is missing", "copy the model folder again"]),
        (["dus", "cut", "out"], ["cannot be read", "bytes long"]),
        (["dus", "in", "out", "--drop", "3"], ["--drop 3 does not fit", "odd", "take 2 or 4, or set --allow-odd"]),
        (["dus", "in", "out", "--drop", "0"], ["--drop 0 does not fit", "at least 1"]),
        (["dus", "in", "out", "--drop", "4"], ["dus with --drop 4 on the 6 layers of in", "try: --drop 2"]),
        (["dus", "in", "out", "--drop", "6"], ["each copy would lose all of its 6 layers", "try: --drop 2"]),
        (["dus", "in", "out", "--drop", "x"], ["--drop x does not fit", "a whole number", "try: --drop 8"]),
        (["dus", "in", "in"], ["OUT is the model itself: in"]),
        (["dus", "in", "bare/../in/"], ["OUT is the model itself"]),
        (["dus", "in", "in/out"], ["in/out lies within in"]),
        (["dus", "in", "lost"], ["lost is there already", "not empty"]),
        (["dus", "in", "in/config.json"], ["lies within in"]),
        (["dus", "in", "file"], ["file is there already", "it is a file"]),
        (["dus", "in", "file/out"], ["file/out cannot be written"]),
        (["dus", "in", "in", "out"], ["dus takes one model", "given 2"]),
    ],
)
def test_bad_input_is_three_lines_and_nothing_is_written(
    cli: WarmCli, folders: Path, args: list[str], says: list[str]
) -> None:
    before = sorted(folders.rglob("*"))
    problem = cli(["merge", *args], folders).problem()
    assert len(problem.splitlines()) == 3, problem
    for text in says:
        assert text in problem
    assert sorted(folders.rglob("*")) == before


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders")
    model = llama(folder / "in")
    (folder / "bare").mkdir()
    (folder / "file").write_text("x")
    for name in ("pickle", "lost", "cut"):
        shutil.copytree(model, folder / name)
    for file in (folder / "pickle").glob("*.safetensors*"):
        file.unlink()
    (folder / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    next((folder / "lost").glob("model-00002-*")).unlink()
    cut = next((folder / "cut").glob("model-00002-*"))
    cut.write_bytes(cut.read_bytes()[:-1])
    return folder


def test_everything_wrong_with_the_folders_is_told_at_once(cli: WarmCli, folders: Path) -> None:
    problem = cli(["merge", "dus", "nowhere", "bare", "lost", "cut", "in"], folders).problem()
    assert problem.count("because: ") == 5
    assert "bytes long and its header speaks of" in problem


# --- kept whole -----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_behind(cli: WarmCli, tmp_path: Path) -> None:
    llama(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    for out in ("new/deeper/out", "empty"):
        done = cli(["merge", "dus", "in", out], tmp_path, file_bytes=20_000)
        assert f"{out} cannot be written" in done.problem()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "in"]
        assert not os.listdir(tmp_path / "empty")


SLOW = """
import time
from pathlib import Path


class Slow:
    def __init__(self, config):
        pass

    def merge(self, models, out, progress):
        (out / "begun").touch()
        for step in range(600):
            time.sleep(0.1)
            progress(step, 600)
"""


def test_a_stopped_merge_leaves_nothing_and_a_second_one_waits(cli: WarmCli, tmp_path: Path) -> None:
    llama(tmp_path / "in")
    source = module("merge", component("slow", "merge_slow.slow:Slow"))
    files = {"merge_slow/__init__.py": "", "merge_slow/plugin.py": source, "merge_slow/slow.py": SLOW}
    Distribution("merge-slow", files, {"merge": {"slow": "merge_slow.plugin"}}).unpack(tmp_path / "site")
    command = cli.start(["merge", "slow", "in", "out"], tmp_path, path=[str(tmp_path / "site")])
    wait_for((tmp_path / "out.partial" / "begun").exists, command)
    second = cli(["merge", "dus", "in", "out"], tmp_path).problem()
    assert "out.partial is there already" in second
    command.kill(signal.SIGTERM)
    done = command.finish()
    assert done.code == 75
    assert "stopped on SIGTERM; out was not written" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "site"]


# --- a third party's part -------------------------------------------------------------------------------------------

CONFIG = """
    from enum import Enum

    class Where(Enum):
        all = 0
        layers = 1

    @dataclass
    class Inner:
        scale: float = 1.0
        \"\"\"A factor on everything.\"\"\"

    @dataclass
    class Mean(ComponentConfig):
        weights: list[float] = field(default_factory=list)
        \"\"\"A share for each model.\"\"\"
        where: Where = Where.all
        \"\"\"Which tensors.\"\"\"
        note: str = "???"
        shares: dict[str, float] = field(default_factory=dict)
        checked: bool = True
        rate: float | None = None
        inner: Inner = field(default_factory=Inner)

        def check(self):
            if self.weights and abs(sum(self.weights) - 1) > 1e-9:
                yield f"weights sum to {sum(self.weights)}; set weights=[0.5,0.5], or checked=false"
"""
MEAN = """
import json

from lmgraft.artifacts import checkpoint


class Mean:
    def __init__(self, config):
        self.config = config

    def merge(self, models, out, progress):
        c = self.config
        told = [c.weights, c.where.name, c.note, c.shares, c.checked, c.rate, c.inner.scale, c.part]
        states = [checkpoint.tensors(model) for model in models]
        mean = {n: sum(w * s[n].float() for w, s in zip(c.weights, states)) * c.inner.scale for n in states[0]}
        checkpoint.write(out, mean, checkpoint.read_config(models[0]) | {"told": told, "dtype": "float32"})
        progress(1, 1)
"""


@pytest.fixture
def site(tmp_path: Path) -> list[str]:
    source = module("merge", component("mean", "merge_mean.mean:Mean", "Mean"), before=CONFIG)
    files = {"merge_mean/__init__.py": "", "merge_mean/plugin.py": source, "merge_mean/mean.py": MEAN}
    Distribution("merge-mean", files, {"merge": {"mean": "merge_mean.plugin"}}).unpack(tmp_path / "site")
    return [str(tmp_path / "site")]


def test_a_third_partys_merge_of_two_models(cli: WarmCli, tmp_path: Path, site: list[str]) -> None:
    one, two = llama(tmp_path / "one", 2), llama(tmp_path / "two", 2, seed=1)
    args: list[Any] = ["merge", "mean", "one", "two", "out", "--weights", "0.25,0.75", "--where", "layers"]
    args += ["--note", "3", "--shares", "a=0.5", "--no-checked", "--rate", "1e-3", "--inner.scale", "2"]
    done = cli(args, tmp_path, path=site).check()
    left, right, merged = weights(one), weights(two), weights(tmp_path / "out")
    assert set(merged) == set(left)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, 2 * (0.25 * left[name].float() + 0.75 * right[name].float()))
    told = json.loads((tmp_path / "out" / "config.json").read_text())["told"]
    assert told == [[0.25, 0.75], "layers", "3", {"a": 0.5}, False, 0.001, 2.0, "mean"]
    assert transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 2
    assert "layers      2 (2, 2 before)" in done.out
    again = [*args[:4], "out2", "--weights", "0.25", "--weights", "0.75", "--note", "x", "--inner.scale", "2"]
    cli(again, tmp_path, path=site).check()
    assert all(torch.equal(tensor, merged[name]) for name, tensor in weights(tmp_path / "out2").items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], ["--note is missing", "try: --note TEXT"]),
        (
            ["--note", "x", "--weights", "1,0.5"],
            ["--weights [1.0, 0.5] does not", "--weights [0.5,0.5], or --no-check"],
        ),
        (["--note", "x", "--weights", "a,b"], ["--weights a,b does not fit", "must be list[float]"]),
        (["--note", "x", "--shares", "a"], ["--shares a does not fit", "'a' has no ="]),
        (["--note", "x", "--where", "some"], ["--where some does not fit", "all or layers"]),
        (["--note", "x", "--rate", "fast"], ["--rate fast does not fit", "a number"]),
    ],
)
def test_wrong_settings_of_a_third_partys_merge(
    cli: WarmCli, tmp_path: Path, site: list[str], options: list[str], says: list[str]
) -> None:
    problem = cli(["merge", "mean", "one", "out", *options], tmp_path, path=site).problem()
    assert len(problem.splitlines()) == 3
    for text in says:
        assert text in problem
    shown = cli(["merge", "mean", "--help"], tmp_path, path=site).check().out
    assert "--where all|layers" in shown
    assert "lmgraft merge mean MODEL OUT --note TEXT" in shown
    assert "A factor on everything." in shown


def test_a_broken_part_hides_no_other(cli: WarmCli, tmp_path: Path) -> None:
    files = {"merge_bad/__init__.py": "", "merge_bad/plugin.py": "raise RuntimeError('no')\n"}
    Distribution("merge-bad", files, {"merge": {"bad": "merge_bad.plugin"}}).unpack(tmp_path / "site")
    path = [str(tmp_path / "site")]
    said = " ".join(cli(["merge", "--help"], tmp_path, path=path).check().out.split())
    assert "bad cannot be used: importing merge_bad.plugin raised RuntimeError: no" in said
    assert "dus Depth up-scaling" in said
    assert "merge 'bad'" in cli(["merge", "bad", "in", "out"], tmp_path, path=path).problem()
    assert os.listdir(tmp_path) == ["site"]
