"""GPT-2 beside transformers' GPT2LMHeadModel: logits, gradients, packed, padded, cached; its files there and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.architecture import DECODER_NAMES, Architecture, Role, TensorRole
from lmgraft.training import products, weights
from lmgraft_decoders.architecture import Gpt2
from lmgraft_decoders.plugin import Gpt2Config, LayerNorm
from torch import nn

V = 61
SMALL: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 4, "mlp": 48, "context": 96}


def fill(module: nn.Module) -> nn.Module:
    """Weights large enough that attention, every bias and every norm matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            norm = name.endswith("weight") and ("norm" in name or "ln_" in name)
            parameter.normal_(1.0 if norm else 0.0, 0.2, generator=generator)
    return module


def made(**settings: Any) -> nn.Module:
    return fill(Gpt2(Gpt2Config(**{**SMALL, **settings})).build(V, "cpu"))


def theirs(**settings: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    written = Gpt2(Gpt2Config(**{**SMALL, **settings})).hub_config(V)
    return fill(transformers.GPT2LMHeadModel(transformers.GPT2Config(**written))).eval()


def loaded(reference: Any, folder: Path, **settings: Any) -> nn.Module:
    """The same model here, through the files that transformers writes."""
    reference.save_pretrained(folder)
    config = Gpt2Config.from_hub(json.loads((folder / "config.json").read_text()))
    assert config == Gpt2Config(**{**SMALL, **settings})
    architecture = Gpt2(config)
    module = weights.materialise(architecture, V, "cpu")
    weights.load_into(module, architecture, folder)
    return module


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def all_logprobs(module: nn.Module, ids: torch.Tensor, **given: Any) -> torch.Tensor:
    """(B, T, V), through the only door there is."""
    targets = torch.arange(V).expand(*ids.shape, V)
    return module(ids, targets=targets, asks={"logprob"}, **given).logprob


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_those_of_transformers(tied: bool, tmp_path: Path) -> None:
    settings = {"tied": tied, "norm_eps": 1e-3}
    reference = theirs(**settings)
    module = loaded(reference, tmp_path, **settings)
    ids = tokens(3, 20)
    expected = reference(ids).logits
    assert (all_logprobs(module, ids) - torch.log_softmax(expected, -1)).abs().max() < 1e-4
    assert (module(ids, asks={"next_logits"}).next_logits - expected[:, -1]).abs().max() < 1e-4


def test_gradients_equal_those_of_transformers(tmp_path: Path) -> None:
    reference = theirs()
    module = loaded(reference, tmp_path)
    ids = tokens(3, 20)
    reference(ids, labels=ids).loss.backward()
    targets = torch.cat((ids[:, 1:], torch.full((3, 1), -1)), 1)
    (-module(ids, targets=targets, asks={"logprob"}).logprob.sum() / (3 * 19)).backward()
    grads = {name: parameter.grad for name, parameter in reference.named_parameters()}
    expected = Gpt2(Gpt2Config(**SMALL)).from_hub(grads)
    named = dict(module.named_parameters())
    assert named.keys() == expected.keys()
    for name, parameter in named.items():
        assert (parameter.grad - expected[name]).abs().max() < 1e-5, name


def test_padding_on_the_left_equals_that_of_transformers(tmp_path: Path) -> None:
    reference = theirs()
    module = loaded(reference, tmp_path)
    ids, short = tokens(2, 12), 5
    there = torch.ones(2, 12, dtype=torch.long)
    there[1, :short] = 0
    positions = (there.cumsum(1) - 1).clamp_min(0)
    expected = torch.log_softmax(reference(ids, attention_mask=there, position_ids=positions).logits, -1)
    got = all_logprobs(module, ids, positions=there.cumsum(1) - 1, segments=there - 1)
    assert (got[0] - expected[0]).abs().max() < 1e-4
    assert (got[1, short:] - expected[1, short:]).abs().max() < 1e-4
    # Positions count from below 0 on the padding in generation; nothing hangs on them.
    early = torch.stack((torch.arange(12), torch.arange(-short, 12 - short)))
    assert torch.isfinite(all_logprobs(module, ids, positions=early, segments=there - 1)).all()


@pytest.mark.parametrize("norm", list(LayerNorm))
def test_packed_documents_equal_separate_ones(norm: LayerNorm) -> None:
    module = made(norm=norm)
    lengths, pad = [7, 1, 12], 4
    documents = [tokens(1, length, seed=length) for length in lengths]
    apart = torch.cat([all_logprobs(module, ids) for ids in documents], 1)
    row = torch.cat([*documents, torch.zeros(1, pad, dtype=torch.long)], 1)
    segments = torch.cat([torch.full((1, length), i) for i, length in enumerate(lengths)], 1)
    segments = torch.cat([segments, torch.full((1, pad), -1)], 1)
    positions = torch.cat([torch.arange(length) for length in [*lengths, pad]])[None]
    packed = all_logprobs(module, row, positions=positions, segments=segments)
    assert torch.isfinite(packed).all()
    assert (packed[:, :-pad] - apart).abs().max() < 1e-5


def test_the_future_is_not_seen() -> None:
    module = made()
    first, second = tokens(1, 16), tokens(1, 16)
    second[0, 10:] = (second[0, 10:] + 1) % V
    left, right = all_logprobs(module, first), all_logprobs(module, second)
    assert torch.equal(left[:, :10], right[:, :10])
    assert (left[:, 10:] - right[:, 10:]).abs().max() > 1e-3


@pytest.mark.parametrize("norm", list(LayerNorm))
def test_a_cache_changes_nothing(norm: LayerNorm) -> None:
    module = made(norm=norm)
    ids = tokens(2, 80)
    with torch.inference_mode():
        out = module(ids[:, :5], asks={"next_logits"})
        at = 5
        for size in (1, 1, 7, 1, 49, 1, 1):  # to the end of the first buffer (64 tokens) and one beyond
            expected = module(ids[:, :at], asks={"next_logits"}).next_logits
            assert (out.next_logits - expected).abs().max() < 1e-4
            out = module(ids[:, at : at + size], asks={"next_logits"}, cache=out.cache)
            at += size
        assert (out.next_logits - module(ids[:, :at], asks={"next_logits"}).next_logits).abs().max() < 1e-4


def test_autocast_stays_close_and_its_products_are_bfloat16() -> None:
    module = made()
    ids = tokens(2, 16)
    kinds: set[torch.dtype] = set()
    module.model.layers[0].mlp.up_proj.register_forward_hook(lambda _m, _i, out: kinds.add(out.dtype))
    exact = module(ids, targets=ids, asks={"logprob"}).logprob
    assert kinds == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(ids, targets=ids, asks={"logprob"}).logprob
    assert kinds == {torch.float32, torch.bfloat16}
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_files_come_back_byte_for_byte(tied: bool, tmp_path: Path) -> None:
    reference = theirs(tied=tied)
    module = loaded(reference, tmp_path / "theirs", tied=tied)
    architecture = Gpt2(Gpt2Config(**SMALL, tied=tied))
    weights.export(tmp_path / "ours", weights.canonical(module), architecture, V)
    before, after = checkpoint.tensors(tmp_path / "theirs"), checkpoint.tensors(tmp_path / "ours")
    assert set(before) == set(after)
    assert ("lm_head.weight" in before) is not tied
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert tensor.numpy().tobytes() == after[name].numpy().tobytes(), name
    import transformers

    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(again(tokens(1, 9)).logits, reference(tokens(1, 9)).logits)


def test_names_without_the_prefix_and_old_masks_are_taken() -> None:
    reference = theirs()
    architecture = Gpt2(Gpt2Config(**SMALL))
    bare = {name.removeprefix("transformer."): tensor for name, tensor in reference.transformer.state_dict().items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 96, 96)
    bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    bare["elsewhere"] = torch.zeros(1)
    found = architecture.from_hub(bare)
    own = weights.canonical(made())
    assert set(found) == {*own, "elsewhere"}  # a name that is not GPT-2's stays visible
    assert torch.equal(found["model.layers.1.self_attn.k_proj.weight"].T, bare["h.1.attn.c_attn.weight"][:, 32:64])


def test_a_fused_matrix_of_another_width_is_told(tmp_path: Path) -> None:
    architecture = Gpt2(Gpt2Config(**SMALL))
    state = dict(architecture.to_hub(weights.canonical(made())))
    state["transformer.h.0.attn.c_attn.weight"] = torch.zeros(32, 95)
    del state["transformer.h.1.attn.c_attn.bias"]
    checkpoint.write(tmp_path, state, architecture.hub_config(V))
    with pytest.raises(UserError) as caught:
        weights.load_into(made(), architecture, tmp_path)
    facts = " ".join(problem.fact for problem in caught.value.problems)
    assert "v_proj.weight is 31 x 32" in facts
    assert "lacks the tensor model.layers.1.self_attn.q_proj.bias" in facts


def test_every_parameter_has_its_canonical_name_and_a_role() -> None:
    part = Gpt2(Gpt2Config(**SMALL, tied=False))
    assert isinstance(part, Architecture)
    roles = {name: part.role(name) for name, _ in part.build(100).named_parameters()}
    assert set(roles) <= {name.format(i=i, e=0) for name in DECODER_NAMES for i in range(2)}
    assert Role.OTHER not in {role.role for role in roles.values()}
    assert roles["model.embed_positions.weight"] == TensorRole(Role.POSITION)
    assert roles["model.norm.bias"] == TensorRole(Role.BIAS)
    for name in ("input_layernorm", "self_attn.v_proj", "mlp.up_proj"):
        assert roles[f"model.layers.1.{name}.bias"] == TensorRole(Role.BIAS, 1)
    assert roles["model.layers.1.self_attn.v_proj.weight"] == TensorRole(Role.VALUE, 1)
    assert not [name for name, _ in made(norm=LayerNorm.none).named_parameters() if "norm" in name]


def test_the_counted_products_are_those_that_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(products, "_faster_here", lambda: False)
    ids = tokens(2, 32)
    module = made()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(ids, targets=ids, asks={"logprob"})
    expected = Gpt2(Gpt2Config(**SMALL)).flops(32, V) / 3 * ids.numel()
    assert counter.get_total_flops() == pytest.approx(expected)


@pytest.mark.parametrize("norm", list(LayerNorm))
def test_the_hub_config_comes_back_as_it_went(norm: LayerNorm) -> None:
    config = Gpt2Config(layers=3, tied=False, norm_eps=1e-6, norm=norm, mlp=96, context=77)
    written = Gpt2(config).hub_config(1000)
    assert Gpt2Config.from_hub(written) == config
    assert ("lmgraft_norm" in written) is (norm is LayerNorm.none)
    assert config.provides() == {"decoder_spec", "norm" if norm is LayerNorm.layernorm else "no_norm"}


def test_openais_own_config_is_read() -> None:
    theirs = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_ctx": 1024,
        "n_positions": 1024,
        "vocab_size": 9,
    }
    config = Gpt2Config.from_hub({**theirs, "activation_function": "gelu_new", "attn_pdrop": 0.1})
    assert config == Gpt2Config(layers=12, hidden=768, heads=12, mlp=3072, context=1024)
    assert Gpt2Config.from_hub({"model_type": "llama"}) is None


@pytest.mark.parametrize(
    ("switch", "word"),
    [
        ({"activation_function": "relu"}, "activation_function to relu"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
        ({"add_cross_attention": True}, "cross_attention"),
        ({"lmgraft_norm": "other"}, "lmgraft_norm"),
    ],
)
def test_switches_that_are_not_built_are_refused(switch: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Gpt2Config.from_hub({**Gpt2(Gpt2Config()).hub_config(1000), **switch})


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"hidden": 250}, "multiple of heads"), ({"mlp": 0}, "mlp"), ({"norm_eps": 0.0}, "norm_eps")],
)
def test_values_that_cannot_be_are_named(settings: dict[str, Any], word: str) -> None:
    assert list(Gpt2Config().check()) == []
    (problem,) = Gpt2Config(**settings).check()
    assert word in problem


def test_the_spec_needs_no_torch() -> None:
    code = (
        "import sys; from lmgraft_decoders.plugin import Gpt2Config, LlamaConfig;"
        "assert Gpt2Config().spec().bias and not LlamaConfig().spec().bias;"
        "Gpt2Config.from_hub({'model_type': 'gpt2', 'n_embd': 8, 'n_layer': 1, 'n_head': 2, 'vocab_size': 9});"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
