"""``lmgraft merge`` of several models, by the parts that compute, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint
from lmgraft.testing._wider import rows_kept, wider_tokenizer
from lmgraft.testing.inputs import byte_tokenizer
from lmgraft.testing.models import write_llama
from safetensors.torch import load_file
from warm_cli import WarmCli


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


def test_linear_of_several_folders(cli: WarmCli, tmp_path: Path) -> None:
    models = [llama(tmp_path / name, seed=seed, shard=shard) for seed, (name, shard) in enumerate(
        [("a", "2KB"), ("b", "1GB"), ("c", "5KB")])]  # fmt: skip
    done = cli(["merge", "linear", "a", "b", "c", "out", "--weights", "0.5,0.3,0.2"], tmp_path).check()
    one, two, three = map(weights, models)
    found = weights(tmp_path / "out")
    for name in found:
        told = one[name].float() * 0.5 + two[name].float() * 0.3 + three[name].float() * 0.2
        torch.testing.assert_close(found[name].float(), told, rtol=2**-8, atol=1e-6)
    assert "layers      6 (6, 6, 6 before)" in done.out
    cli(["merge", "linear", "a", "b", "c", "again", "--weights", "[0.5, 0.3, 0.2]"], tmp_path).check()
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_settings_of_several_kinds(cli: WarmCli, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        llama(tmp_path / name, seed=seed)
    assert "--gradients" in cli(["merge", "slerp", "a", "b", "one", "--gradients", "mlp=0.3"], tmp_path).problem()
    gradients = "{self_attn: [0, 1], mlp: [0.3]}"
    cli(["merge", "slerp", "a", "b", "two", "--gradients", gradients, "--dtype", "float32"], tmp_path).check()
    assert weights(tmp_path / "two")["model.norm.weight"].dtype == torch.float32
    cli(["merge", "slerp", "a", "b", "three", "--gradients", "self_attn=[0,1],mlp=[0.3]"], tmp_path).check()
    near = weights(tmp_path / "three")
    assert all(torch.equal(value.bfloat16(), near[name]) for name, value in weights(tmp_path / "two").items())
    cli(["merge", "ties", "a", "b", "c", "four", "--densities", "0.5,1", "--sign", "count"], tmp_path).check()
    cli(["merge", "passthrough", "a", "b", "five", "--slices", "0:4,1@2:6"], tmp_path).check()
    assert checkpoint.read_config(tmp_path / "five")["num_hidden_layers"] == 8
    cli(["merge", "block_expansion", "a", "six", "--every", "3"], tmp_path).check()
    assert checkpoint.read_config(tmp_path / "six")["num_hidden_layers"] == 8


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ("linear a out", ["linear takes 2 or more models", "it is given 1: IN is a and OUT is out", "--help"]),
        ("slerp a b c out", ["slerp takes 2 models", "it is given 3", "--help"]),
        (
            "linear a b out --weights 1",
            ["weights 1 does not match", "one is given for 2 models", "--weights [0.5,0.5]"],
        ),
        ("linear a b out --weights nan,1", ["--weights", "every number must be finite", "lmgraft merge linear --help"]),
        ("linear a b out --weights x,1", ["--weights x,1 does not fit", "list", "--weights"]),
        ("ties a b out --density 2", ["--density 2.0 does not fit", "a share lies between 0 and 1", "--help"]),
        ("passthrough a out --slices 0:9", ["0:9 does not fit the layers of a", "it has 6, 0 to 5", "0:6 at most"]),
        ("passthrough a out --slices 4:2", ["--slices", "holds no layer", "--help"]),
        ("passthrough a out --slices 1@0:2", ["a slice of model 1", "there is 1 model", "name it too"]),
        (
            "passthrough a b out --slices 0:2",
            ["nothing is taken of model 1", "no slice begins with 1@", "leave it out"],
        ),
        ("passthrough a out", ["--slices is missing", "no value of its own", "--slices"]),
        ("linear a wide out", ["a and wide cannot be merged", "token", "share a tokenizer"]),
    ],
)
def test_several_models_wrong_in_three_lines(cli: WarmCli, tmp_path: Path, args: str, lines: list[str]) -> None:
    for seed, name in enumerate("abc"):
        llama(tmp_path / name, seed=seed)
        byte_tokenizer(tmp_path / name)
    llama(tmp_path / "wide")
    wider_tokenizer(tmp_path / "wide")
    said = [line.strip() for line in cli(["merge", *args.split()], tmp_path).problem().splitlines()]
    assert len(said) == 3, said
    assert all(word in line for word, line in zip(lines, said, strict=True)), said
    assert not (tmp_path / "out").exists()


def test_stages_of_a_run(cli: WarmCli, tmp_path: Path) -> None:
    """RUN:STAGE names a model and a tokenizer, as it does for lmgraft tokens."""
    write_llama(tmp_path / "run" / "stages" / "pretrain", layers=2)
    wider_tokenizer(tmp_path / "run" / "stages" / "extended")
    stages = {"pretrain": {"kind": "train"}, "extended": {"kind": "tokenizer"}, "later": {"kind": "train"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"stages": stages}))
    cli(["merge", "vocabulary_rows", "run:pretrain", "out", "--tokenizer", "run:extended"], tmp_path).check()
    assert rows_kept(tmp_path / "run/stages/pretrain", tmp_path / "run/stages/extended", tmp_path / "out") == ""
    for option, word in (("run:extnded", "run:extended"), ("run:later", "run the recipe to its end")):
        problem = cli(["merge", "vocabulary_rows", "run:pretrain", "other", "--tokenizer", option], tmp_path).problem()
        assert len(problem.splitlines()) == 3
        assert word in problem
