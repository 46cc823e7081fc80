from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft import loading
from lmgraft.artifacts import checkpoint, tokenizer
from lmgraft.errors import UserError
from lmgraft.generation.prompts import end_ids

CONFIG: dict[str, Any] = {"model_type": "llama", "tie_word_embeddings": False}


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "model.embed_tokens.weight": torch.randn(10, 4, generator=generator),
        "model.norm.weight": torch.randn(4, generator=generator).bfloat16(),
        "lm_head.weight": torch.randn(10, 4, generator=generator),
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG, {"eos_token_id": 3})
    checkpoint.verify(tmp_path)
    stored = checkpoint.tensors(tmp_path)
    assert dict(stored).keys() == state().keys()
    for name, tensor in state().items():
        assert torch.equal(stored[name], tensor)
        assert stored.headers[name].shape == tuple(tensor.shape)
    assert stored.headers["model.norm.weight"].dtype == "BF16"
    assert checkpoint.read_config(tmp_path) == CONFIG
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"eos_token_id": 3}
    assert checkpoint.parameters(tmp_path) == 84


def test_the_order_of_the_state_does_not_matter(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "a", state(), CONFIG)
    checkpoint.write(tmp_path / "b", dict(reversed(state().items())), dict(reversed(CONFIG.items())))
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG | {"tie_word_embeddings": True})
    assert "lm_head.weight" not in checkpoint.tensors(tmp_path)
    assert checkpoint.parameters(tmp_path) == 44


def test_shards_with_an_index(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG, shard_bytes=200)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * 160 + 8
    checkpoint.verify(tmp_path)
    stored = checkpoint.tensors(tmp_path)
    assert all(torch.equal(stored[name], tensor) for name, tensor in state().items())
    assert checkpoint.parameters(tmp_path) == 84


def test_transformers_reads_the_shards(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
    config = model.config.to_dict()
    checkpoint.write(tmp_path, model.state_dict(), config, shard_bytes=1000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_special_ids_reach_both_files(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG, {"do_sample": True})
    checkpoint.set_token_ids(tmp_path, end_id=0, pad_id=1)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    assert checkpoint.read_config(tmp_path) == CONFIG | ids
    assert json.loads((tmp_path / "generation_config.json").read_text()) == ids | {"do_sample": True}


def test_all_that_ends_an_answer_stands_in_the_generation_config(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG)
    checkpoint.set_token_ids(tmp_path, end_id=0, pad_id=1, stop_ids=(0, 5))
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [0, 5]
    assert checkpoint.read_config(tmp_path)["eos_token_id"] == 0


def damage(folder: Path, how: str) -> None:
    file = folder / "model-00001-of-00002.safetensors"
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    if how == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "long":
        file.write_bytes(file.read_bytes() + b"x")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "huge header":
        file.write_bytes(struct.pack("<Q", 1 << 60) + file.read_bytes()[8:])
    elif how == "no json":
        file.write_bytes(file.read_bytes().replace(b"{", b"[", 1))
    elif how == "missing":
        file.unlink()
    elif how == "outside":
        content["weight_map"]["model.norm.weight"] = "../other.safetensors"
    elif how == "wrong shard":
        content["weight_map"]["model.norm.weight"] = file.name
    elif how == "config":
        (folder / "config.json").unlink()
    elif how == "type":
        (folder / "config.json").write_text("{}")
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("short", "model-00001-of-00002.safetensors"),
        ("long", "model-00001-of-00002.safetensors"),
        ("empty", "model-00001-of-00002.safetensors"),
        ("huge header", "model-00001-of-00002.safetensors"),
        ("no json", "model-00001-of-00002.safetensors"),
        ("missing", "model-00001-of-00002.safetensors is missing"),
        ("outside", "index.json"),
        ("wrong shard", "index.json"),
        ("config", "config.json is missing"),
        ("type", "model_type"),
    ],
)
def test_damage_is_named(how: str, named: str, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG, shard_bytes=200)
    damage(tmp_path, how)
    with pytest.raises(UserError, match=named) as caught:
        checkpoint.verify(tmp_path)
    assert len(caught.value.render().splitlines()) == 3


BYTES = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": {**BYTES["a"], "shape": [-2, -2]}}, "shape"),
        ({"a": {**BYTES["a"], "shape": [4.0]}}, "shape"),
        ({"a": {**BYTES["a"], "shape": [True, 4]}}, "shape"),
        ({**BYTES, "b": {"dtype": "F32", "shape": [0, 1 << 40, 1 << 40], "data_offsets": [16, 16]}}, "shape"),
        ({"a": {**BYTES["a"], "data_offsets": [-8, 8]}}, "place"),
        ({"a": {**BYTES["a"], "data_offsets": [0.0, 16.0]}}, "place"),
        ({**BYTES, "b": BYTES["a"]}, "one behind the other"),
        ({"a": {**BYTES["a"], "data_offsets": [8, 24]}}, "one behind the other"),
        ({"a": {**BYTES["a"], "shape": [3]}}, "disagree"),
    ],
)
def test_headers_that_lie(header: dict[str, Any], said: str, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    most = max(int(entry["data_offsets"][1]) for entry in header.values())
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(most))
    with pytest.raises(UserError, match=said):
        checkpoint.headers(tmp_path)


def test_nesting_without_end_is_damage(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(), CONFIG)
    deep = "[" * 100_000
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep.encode())
    with pytest.raises(UserError, match=r"safetensors cannot be read"):
        checkpoint.headers(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ' + deep)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        checkpoint.read_config(tmp_path)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        loading.architecture_for(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(deep)
    with pytest.raises(UserError, match="is not JSON"):
        tokenizer.load(tmp_path)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        end_ids(tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is refused") as caught:
        checkpoint.tensors(tmp_path)
    assert len(caught.value.render().splitlines()) == 3


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model weights"):
        checkpoint.parameters(tmp_path)


def test_headers_need_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    checkpoint.write(tmp_path, state(), CONFIG)
    code = (
        "import sys; from pathlib import Path; from lmgraft.artifacts import checkpoint as c;"
        "f = Path(sys.argv[1]); c.verify(f); print(c.parameters(f), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["84", "False"]
