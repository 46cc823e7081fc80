"""What is written, and what is refused; llama.cpp itself is not needed here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.exporter import Known
from lmgraft.testing.models import write_llama
from lmgraft_gguf import splitting
from lmgraft_gguf.exporter import GGUF
from lmgraft_gguf.llama import rope_factors
from lmgraft_gguf.plugin import GGUFConfig, Type


def part(kind: Type = Type.f32) -> GGUF:
    settings = GGUFConfig()
    settings.type = kind
    return GGUF(settings)


@pytest.fixture
def model(tmp_path) -> Path:
    write_llama(tmp_path / "model", layers=2, hidden=64)
    return tmp_path / "model"


def written(model: Path, kind: Type = Type.f32, known: Known | None = None) -> gguf.GGUFReader:
    out = model.parent / f"out-{kind.value}"
    part(kind).export_informed(model, out, known or Known())
    return gguf.GGUFReader(out / f"model-{kind.value}.gguf")


def told(reader: gguf.GGUFReader) -> dict:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def configured(model: Path, **more) -> Path:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return model


def refused(model: Path, *words: str, kind: Type = Type.f32) -> None:
    out = model.parent / "refused"
    with pytest.raises(UserError) as caught:
        part(kind).export(model, out)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert not out.exists() or not list(out.iterdir())


def test_a_llama_is_told_as_llama_cpp_reads_it(model):
    found = told(written(configured(model, rope_theta=5e5, max_position_embeddings=99)))
    assert found["general.architecture"] == "llama"
    assert (found["llama.block_count"], found["llama.context_length"], found["llama.attention.head_count"]) == (
        2,
        99,
        2,
    )
    assert found["llama.rope.freq_base"] == 5e5
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (256, 256)
    assert (found["tokenizer.ggml.padding_token_id"], found["tokenizer.ggml.add_bos_token"]) == (257, True)
    assert len(found["tokenizer.ggml.tokens"]) == 258
    assert found["tokenizer.ggml.token_type"][-3:] == [1, 3, 3]  # a byte, and two control tokens
    assert "general.license" not in found
    assert "general.name" not in found


def test_what_is_known_is_told(model):
    found = told(written(model, known=Known(name="small", license="apache-2.0", languages=("en", "de"))))
    assert (found["general.name"], found["general.license"]) == ("small", "apache-2.0")
    assert found["general.languages"] == ["en", "de"]


def test_rows_of_queries_and_keys_change_their_order(model):
    """(head, half, i) becomes (head, i, half); values stay."""
    before = checkpoint.tensors(model)
    after = {tensor.name: tensor.data for tensor in written(model).tensors}
    query = before["model.layers.1.self_attn.q_proj.weight"].numpy()
    assert np.array_equal(after["blk.1.attn_q.weight"], query.reshape(2, 2, 16, 64).swapaxes(1, 2).reshape(64, 64))
    assert np.array_equal(after["blk.1.attn_v.weight"], before["model.layers.1.self_attn.v_proj.weight"].numpy())


def test_which_type_each_tensor_gets(model):
    kinds = {tensor.name: tensor.tensor_type.name for tensor in written(model, Type.q4_0).tensors}
    assert kinds["blk.0.attn_q.weight"] == kinds["token_embd.weight"] == "Q4_0"
    assert kinds["output.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == kinds["output_norm.weight"] == "F32"
    kinds = {tensor.name: tensor.tensor_type.name for tensor in written(model, Type.f16).tensors}
    assert set(kinds.values()) == {"F16", "F32"}
    tied = checkpoint.tensors(model)
    state = {name: tied[name] for name in tied if name != "lm_head.weight"}
    checkpoint.write(model, state, checkpoint.read_config(model) | {"tie_word_embeddings": True})
    kinds = {tensor.name: tensor.tensor_type.name for tensor in written(model, Type.q4_0).tensors}
    assert kinds["token_embd.weight"] == "Q8_0"  # it is the head too
    assert "output.weight" not in kinds


def test_narrow_rows_are_not_cut_into_blocks(tmp_path):
    write_llama(tmp_path / "model", layers=1, hidden=24)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in written(tmp_path / "model", Type.q8_0).tensors}
    assert kinds["blk.0.attn_q.weight"] == "F16"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_in_shards(model, dtype):
    """Read as they are, so what is written is their numbers."""
    state = {name: tensor.to(dtype) for name, tensor in checkpoint.tensors(model).items()}
    config = checkpoint.read_config(model)
    (model / "model.safetensors").unlink()
    checkpoint.write(model, state, config, shard_bytes=20_000)
    assert len(list(model.glob("*.safetensors"))) > 2
    after = {tensor.name: tensor.data for tensor in written(model).tensors}
    wanted = state["model.layers.0.mlp.down_proj.weight"].to(torch.float32).numpy()
    assert np.array_equal(after["blk.0.ffn_down.weight"], wanted)


def test_more_rows_than_tokens_get_names(model):
    """A vocabulary that was padded to a round number."""
    state = dict(checkpoint.tensors(model))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.cat([state[name], torch.zeros(6, 64)])
    checkpoint.write(model, state, checkpoint.read_config(model) | {"vocab_size": 264})
    found = told(written(model))
    assert found["tokenizer.ggml.tokens"][258:] == [f"[PAD{index}]" for index in range(258, 264)]
    assert found["tokenizer.ggml.token_type"][258:] == [5] * 6


def test_names_that_llama_cpp_could_not_tell_apart(model):
    """A token that has the name of a padded row's, and one whose name C would end early."""
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    added = dict(content["added_tokens"][-1], special=False)
    content["added_tokens"] += [added | {"id": 258, "content": "[PAD261]"}, added | {"id": 259, "content": "a\0b"}]
    file.write_text(json.dumps(content))
    state = dict(checkpoint.tensors(model))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.cat([state[name], torch.zeros(6, 64)])
    checkpoint.write(model, state, checkpoint.read_config(model) | {"vocab_size": 264})
    tokens = told(written(model))["tokenizer.ggml.tokens"]
    assert len(set(tokens)) == len(tokens) == 264
    assert tokens[258:262] == ["[PAD261]", "[token259]", "[PAD260]", "[token261]"]


def test_all_that_ends_an_answer_and_the_chat_template(model):
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 257]}))
    (model / "chat_template.jinja").write_text("{{ bos_token }}hello")
    found = told(written(model))
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (256, 257)
    assert found["tokenizer.chat_template"] == "{{ bos_token }}hello"


def test_a_window_ends_the_context(model):
    """llama.cpp sees all tokens: the same as long as the window holds them."""
    model = configured(model, model_type="mistral", sliding_window=32)
    assert told(written(model))["llama.context_length"] == 32


def test_stretched_wavelengths_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_theta": 5e5}  # fmt: skip
    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=2, rope_parameters=rope)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 5e5 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    assert np.allclose(rope_factors(rope, 32, 128), (plain / stretched).numpy(), rtol=1e-5)


def test_stretched_wavelengths_in_the_words_of_transformers_4(model):
    """As published files of Llama 3.1 have them: the base stands outside of the stretching."""
    stretch = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}  # fmt: skip
    new = configured(model, rope_parameters=stretch | {"rope_theta": 5e5}, rope_theta=None)
    expected = {one.name: one.data.copy() for one in written(new).tensors}
    old = configured(model, rope_scaling=stretch, rope_theta=5e5, rope_parameters=None)
    found = {one.name: one.data for one in written(old).tensors}
    assert np.array_equal(found["rope_freqs.weight"], expected["rope_freqs.weight"])
    assert told(written(old))["llama.rope.freq_base"] == 5e5


@pytest.mark.parametrize(
    "wrong",
    [
        {"head_dim": "x"}, {"head_dim": 10**12}, {"head_dim": -1}, {"num_attention_heads": True},
        {"num_key_value_heads": [1]}, {"num_key_value_heads": 10**12}, {"rms_norm_eps": "x"}, {"rms_norm_eps": 1e40},
        {"rope_parameters": [1]}, {"rope_parameters": {"rope_type": "linear"}}, {"max_position_embeddings": -1},
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 1.0}},
        {"intermediate_size": 1.5}, {"num_hidden_layers": 10**12},
    ],
)  # fmt: skip
def test_a_config_that_is_damaged_is_told(model, wrong):
    refused(configured(model, **wrong), "config.json")


def test_shapes_that_config_does_not_lead_to_are_told(model):
    refused(configured(model, intermediate_size=7), "model.layers.0.mlp.gate_proj.weight", "config.json leads to 7 x")
    refused(configured(model, num_key_value_heads=1, num_attention_heads=1), "leads to")


@pytest.mark.parametrize(
    "wrong", [{"model": 3}, {"model": {"type": "BPE"}}, {"added_tokens": -1}, {"added_tokens": [3]}, {"normalizer": 1}]
)
def test_a_tokenizer_that_is_damaged_is_told(model, wrong):
    refused(tokenizer(model, **wrong), "tokenizer.json")


def test_memory_does_not_grow_with_a_tensor(tmp_path):
    """A block of rows at a time, though one tensor is larger than all that is allowed."""
    import tracemalloc

    write_llama(tmp_path / "model", layers=1, hidden=64)
    state, config = dict(checkpoint.tensors(tmp_path / "model")), checkpoint.read_config(tmp_path / "model")
    for name in ("gate_proj", "up_proj"):
        state[f"model.layers.0.mlp.{name}.weight"] = torch.zeros(200_000, 64)
    state["model.layers.0.mlp.down_proj.weight"] = torch.zeros(64, 200_000)
    checkpoint.write(tmp_path / "model", state, config | {"intermediate_size": 200_000})
    del state
    tracemalloc.start()
    part(Type.q8_0).export(tmp_path / "model", tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6 < 200_000 * 64 * 4


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model_type": "lmgraft_lstm"}, ["lmgraft_lstm", "no lstm", "lmgraft export hf"]),
        ({"model_type": "mamba"}, ["mamba", "llama", "qwen2"]),
        ({"lmgraft_norm": "none"}, ["without norms", "normalises"]),
        ({"hidden_act": "relu"}, ["relu", "silu"]),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, ["yarn", "linear and llama3"]),
        ({"partial_rotary_factor": 0.5}, ["0.5", "whole heads"]),
        ({"num_hidden_layers": 3}, ["model.layers.2.input_layernorm.weight", "config.json"]),
        ({"num_hidden_layers": 1}, ["model.layers.1", "no place"]),
        ({"num_hidden_layers": None}, ["num_hidden_layers"]),
    ],
)
def test_models_that_llama_cpp_lacks(model, more, words):
    refused(configured(model, **more), *words)


def test_other_families_with_switches_that_llama_cpp_lacks(model):
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64}
    refused(configured(model, model_type="gpt2", activation_function="relu", **sizes), "relu", "GELU")
    refused(configured(model, model_type="gpt2", activation_function=None, **sizes), "wte.weight")
    refused(configured(model, model_type="falcon", alibi=True), "alibi", "rotary")
    refused(configured(model, model_type="falcon", alibi=False, bias=True), "bias")
    refused(configured(model, model_type="falcon", bias=False, parallel_attn=False), "parallel_attn")
    post = {"apply_residual_connection_post_layernorm": True, "n_head": 2}
    refused(configured(model, model_type="bloom", **post), "post_layernorm")


def tokenizer(folder: Path, /, **more) -> Path:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return folder


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}, ["pre-tokenizer"]),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}}, ["no name for", "byte_bpe"]),
        ({"normalizer": {"type": "Lowercase"}}, ["Lowercase", "llama.cpp does not"]),
        ({"model": {"type": "WordPiece", "vocab": {}}}, ["WordPiece", "byte_bpe"]),
        ({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0]], "unk_id": 0, "byte_fallback": True}}, ["by bytes"]),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}, ["dropout"]),
    ],
)  # fmt: skip
def test_tokenizers_that_llama_cpp_lacks(model, more, words):
    refused(tokenizer(model, **more), *words)


def test_sentencepiece_that_llama_cpp_would_read_otherwise(model):
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256, "b": 257, "ab": 258, "abb": 259, "bb": 260}
    bpe = {"type": "BPE", "vocab": vocab, "byte_fallback": True, "merges": [["b", "b"], ["a", "b"], ["ab", "b"]]}
    plain = {"pre_tokenizer": None, "normalizer": None, "added_tokens": []}
    refused(tokenizer(model, model=bpe, **plain), "'a' and 'bb'", "not among its merges")
    refused(tokenizer(model, model=bpe | {"byte_fallback": False}, **plain), "byte_fallback")
    shuffled = [["b", "b"], ["a", "b"], ["a", "bb"], ["ab", "b"], ["b", "b"]]
    refused(tokenizer(model, model=bpe | {"merges": shuffled}, **plain), "order")


def test_tokenizers_that_are_broken_or_others(model):
    shutil.copy(model / "tokenizer_config.json", model / "kept")
    (model / "tokenizer_config.json").write_text(json.dumps({"lmgraft_tokenizer": "mine", "eos_token": "x"}))
    refused(model, "mine", "own readers")
    (model / "tokenizer_config.json").write_text("{")
    refused(model, "tokenizer_config.json", "cannot be read")
    (model / "kept").rename(model / "tokenizer_config.json")
    (model / "tokenizer.json").unlink()
    refused(model, "tokenizer.json is missing")


def test_a_number_that_16_bits_do_not_hold(model):
    state = dict(checkpoint.tensors(model))
    state["model.layers.1.mlp.up_proj.weight"] = state["model.layers.1.mlp.up_proj.weight"].clone()
    state["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e9
    checkpoint.write(model, state, checkpoint.read_config(model))
    refused(model, "blk.1.ffn_up.weight", "f16", "1e+09", kind=Type.f16)
    refused(model, "blk.1.ffn_up.weight", "q8_0", kind=Type.q8_0)
    written(model)


def test_weights_that_are_quantised_already(model):
    state = dict(checkpoint.tensors(model))
    state["model.layers.1.mlp.up_proj.weight"] = state["model.layers.1.mlp.up_proj.weight"].to(torch.int8)
    checkpoint.write(model, state, checkpoint.read_config(model))
    refused(model, "I8", "rounded twice")


def test_every_pattern_that_is_learnt_here_has_a_name():
    """What ``byte_bpe`` trains can leave."""
    from lmgraft.registry import registry

    patterns = type(registry().get("tokenizer", "byte_bpe").component.config().pattern)
    known = set(splitting.KNOWN.values())
    assert {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2"}.keys() == {one.name for one in patterns}
    assert {"gpt-2", "llama-bpe", "qwen2"} <= known
