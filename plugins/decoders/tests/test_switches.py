"""Every switch of the spec beside transformers' models with the same random weights, and beside itself: padded, packed,
cached, with rows joined and taken apart.

Names are translated here as far as these models differ from Llama's; the translations that ship have tests of their
own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.seams.architecture import DecoderSpec, RopeScaling, RowCache
from lmgraft_decoders import alibi
from lmgraft_decoders.attention import attend, view
from lmgraft_decoders.model import DecoderModule
from torch import nn

V = 61
LLAMA = DecoderSpec(layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, mlp=48, context=64)
GPT2 = replace(LLAMA, kv_heads=4, norm="layernorm", gated=False, activation="gelu_tanh", positions="learned", bias=True)
FALCON = replace(
    LLAMA, heads=5, kv_heads=1, hidden=40, norm="layernorm", gated=False, activation="gelu", parallel_block=True
)
SPECS: dict[str, DecoderSpec] = {
    "falcon 7b": replace(FALCON, tied=True),
    "falcon 40b": replace(FALCON, heads=6, kv_heads=2, hidden=48, shared_norm=False),
    "bloom": replace(GPT2, positions="alibi", embedding_norm=True, tied=True),
    "bloom, 6 heads": replace(GPT2, heads=6, kv_heads=6, hidden=48, positions="alibi", embedding_norm=True),
    "alibi, grouped": replace(LLAMA, positions="alibi"),
    "mistral": replace(LLAMA, window=5),
    "mixtral": replace(LLAMA, experts=4, experts_per_token=2, expert_balance=0.02),
    "qwen": replace(LLAMA, qkv_bias=True),
    "alibi in a window": replace(LLAMA, positions="alibi", window=6, norm="none"),
    "parallel without norms": replace(LLAMA, parallel_block=True, norm="none"),
    "linear": replace(LLAMA, rope_scaling=RopeScaling(kind="linear", factor=3.0)),
    "llama3": replace(
        LLAMA,
        rope_scaling=RopeScaling(
            kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=16
        ),
    ),
}


def made(spec: DecoderSpec) -> nn.Module:
    """A model with weights large enough that attention and the router matter."""
    module = DecoderModule(spec, V).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            parameter.normal_(1.0 if gain else 0.0, 0.2, generator=generator)
    return module


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def all_logprobs(module: nn.Module, ids: torch.Tensor, **given: Any) -> torch.Tensor:
    """(B, T, V), through the only door there is."""
    return module(ids, targets=torch.arange(V).expand(*ids.shape, V), asks={"logprob"}, **given).logprob


# --- transformers ----------------------------------------------------------------------------------------------------


def llama_like(kind: str, spec: DecoderSpec, **more: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=V,
        hidden_size=spec.hidden,
        intermediate_size=spec.mlp,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context,
        rms_norm_eps=spec.norm_eps,
        attn_implementation="eager",
        **{"rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta}, **more},
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def plain(weights: dict[str, torch.Tensor], spec: DecoderSpec) -> dict[str, torch.Tensor]:
    return weights


def mixtral(weights: dict[str, torch.Tensor], spec: DecoderSpec) -> dict[str, torch.Tensor]:
    found = {name.replace("mlp.router", "mlp.gate"): one for name, one in weights.items() if ".experts." not in name}
    for layer in range(spec.layers):
        at = f"model.layers.{layer}.mlp.experts"
        part = {
            letter: [weights[f"{at}.{e}.{letter}_proj.weight"] for e in range(spec.experts)]
            for letter in ("gate", "up", "down")
        }
        both = [torch.cat(pair) for pair in zip(part["gate"], part["up"], strict=True)]
        found |= {f"{at}.gate_up_proj": torch.stack(both), f"{at}.down_proj": torch.stack(part["down"])}
    return found


def fused(weights: dict[str, torch.Tensor], spec: DecoderSpec, kind: str, at: str) -> torch.Tensor:
    """Falcon and BLOOM: each key head's queries, its key and its value below one another."""
    groups = [
        weights[f"{at}.self_attn.{letter}_proj.{kind}"].unflatten(0, (spec.kv_heads, -1)) for letter in ("q", "k", "v")
    ]
    return torch.cat(groups, 1).flatten(0, 1)


def bloom_like(
    weights: dict[str, torch.Tensor], spec: DecoderSpec, names: dict[str, str], inner: dict[str, str]
) -> dict[str, torch.Tensor]:
    found = {}
    for name, one in weights.items():
        stem, kind = name.rsplit(".", 1)
        if stem in names:
            found[f"{names[stem]}.{kind}"] = one
        elif ".layers." in stem:
            layer, part = stem.split(".", 3)[2:]
            if part in inner:
                found[f"transformer.h.{layer}.{inner[part]}.{kind}"] = one
            else:
                there = f"transformer.h.{layer}.self_attention.query_key_value.{kind}"
                found[there] = fused(weights, spec, kind, f"model.layers.{layer}")
    return found


OUTSIDE = {
    "model.embed_tokens": "transformer.word_embeddings",
    "model.embed_norm": "transformer.word_embeddings_layernorm",
    "model.norm": "transformer.ln_f",
    "lm_head": "lm_head",
}
INNER = {"self_attn.o_proj": "self_attention.dense", "mlp.up_proj": "mlp.dense_h_to_4h"} | {
    "mlp.down_proj": "mlp.dense_4h_to_h"
}
NORMS = {"input_layernorm": "input_layernorm", "post_attention_layernorm": "post_attention_layernorm"}


def bloom(weights: dict[str, torch.Tensor], spec: DecoderSpec) -> dict[str, torch.Tensor]:
    return bloom_like(weights, spec, OUTSIDE, INNER | NORMS)


def falcon(weights: dict[str, torch.Tensor], spec: DecoderSpec) -> dict[str, torch.Tensor]:
    two = {"input_layernorm": "ln_attn", "post_attention_layernorm": "ln_mlp"}
    return bloom_like(weights, spec, OUTSIDE, INNER | (NORMS if spec.shared_norm else two))


def their_bloom(spec: DecoderSpec) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BloomConfig(
        vocab_size=V,
        hidden_size=spec.hidden,
        n_layer=spec.layers,
        n_head=spec.heads,
        layer_norm_epsilon=spec.norm_eps,
        tie_word_embeddings=spec.tied,
    )
    return transformers.BloomForCausalLM(config).eval()


def their_falcon(spec: DecoderSpec) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.FalconConfig(
        vocab_size=V,
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_kv_heads=spec.kv_heads,
        new_decoder_architecture=not spec.shared_norm,
        parallel_attn=True,
        multi_query=spec.kv_heads == 1,
        bias=False,
        alibi=False,
        ffn_hidden_size=spec.mlp,
        layer_norm_epsilon=spec.norm_eps,
        max_position_embeddings=spec.context,
        tie_word_embeddings=spec.tied,
        attn_implementation="eager",
    )
    return transformers.FalconForCausalLM(config).eval()


ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
THEIRS: dict[str, tuple[Callable[[DecoderSpec], Any], Callable[..., dict[str, torch.Tensor]]]] = {
    "falcon 7b": (their_falcon, falcon),
    "falcon 40b": (their_falcon, falcon),
    "bloom": (their_bloom, bloom),
    "bloom, 6 heads": (their_bloom, bloom),
    "mistral": (lambda spec: llama_like("Mistral", spec, sliding_window=spec.window, head_dim=8), plain),
    "mixtral": (
        lambda spec: llama_like(
            "Mixtral", spec, num_local_experts=4, num_experts_per_tok=2, sliding_window=None, head_dim=8
        ),
        mixtral,
    ),
    "qwen": (lambda spec: llama_like("Qwen2", spec, use_sliding_window=False), plain),
    "linear": (
        lambda spec: llama_like(
            "Llama", spec, rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 10_000.0}
        ),
        plain,
    ),
    "llama3": (
        lambda spec: llama_like(
            "Llama",
            spec,
            rope_parameters={**ROPE, "original_max_position_embeddings": 16, "rope_theta": 10_000.0},
        ),
        plain,
    ),
}


def wide_mlp(name: str) -> DecoderSpec:
    """BLOOM's MLP is four times as wide as the stream, whatever one asks for."""
    spec = SPECS[name]
    return replace(spec, mlp=4 * spec.hidden) if name.startswith("bloom") else spec


def beside(name: str) -> tuple[nn.Module, Any]:
    spec = wide_mlp(name)
    make, translated = THEIRS[name]
    module, theirs = made(spec), make(spec)
    weights = translated(dict(module.state_dict()), spec)
    lost = theirs.load_state_dict(weights, strict=False)
    assert not lost.unexpected_keys
    assert set(lost.missing_keys) <= ({"lm_head.weight"} if spec.tied else set())
    theirs.tie_weights()
    return module, theirs


@pytest.mark.parametrize("name", list(THEIRS))
def test_logits_equal_those_of_transformers(name: str) -> None:
    module, theirs = beside(name)
    ids = tokens(3, 20)
    with torch.no_grad():
        expected = theirs(ids).logits
        assert (all_logprobs(module, ids) - torch.log_softmax(expected, -1)).abs().max() < 1e-4
        assert (module(ids, asks={"next_logits"}).next_logits - expected[:, -1]).abs().max() < 1e-4


def test_the_balance_loss_is_that_of_transformers() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    module, theirs = beside("mixtral")
    ids, seen = tokens(3, 20), torch.ones(3, 20, dtype=torch.int64)
    seen[1, 13:] = 0
    segments = seen - 1
    routed: list[torch.Tensor] = []
    for layer in theirs.model.layers:
        layer.mlp.gate.register_forward_hook(lambda _module, _inputs, out: routed.append(out[0]))
    for extra, mask in (({}, None), ({"segments": segments}, seen)):
        routed.clear()
        with torch.no_grad():
            theirs(ids, attention_mask=mask)
        expected = load_balancing_loss_func(tuple(routed), 4, 2, mask)
        assert not module.eval()(ids, **extra).model_losses
        losses = module.train()(ids, **extra).model_losses
        assert list(losses) == ["expert_balance"]
        assert losses["expert_balance"].item() == pytest.approx(0.02 * expected.item(), rel=1e-5)
    losses["expert_balance"].backward()
    assert all(layer.mlp.router.weight.grad.any() for layer in module.model.layers)


def test_experts_without_tokens_still_have_a_gradient() -> None:
    module = made(SPECS["mixtral"]).train()
    ids = tokens(1, 1)  # two of four experts at most
    module(ids, targets=ids, asks={"logprob"}).logprob.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_experts_read_their_own_tokens_only() -> None:
    module = made(SPECS["mixtral"])
    rows: list[int] = []
    for layer in module.model.layers:
        for expert in layer.mlp.experts:
            expert.register_forward_hook(lambda _module, inputs, _out: rows.append(inputs[0].shape[0]))
    with torch.no_grad():
        module(tokens(2, 16))
    assert sum(rows) == 2 * 16 * 2 * 2  # tokens, experts a token, layers


# --- beside itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SPECS))
def test_packed_documents_equal_separate_ones(name: str) -> None:
    lengths, pad = [9, 1, 12], 4
    documents = [tokens(1, length, seed=length) for length in lengths]
    goals = [tokens(1, length, seed=100 + length) for length in lengths]
    module = made(SPECS[name])
    outs = [module(ids, targets=goal, asks={"logprob"}).logprob for ids, goal in zip(documents, goals, strict=True)]
    sum(out.sum() for out in outs).backward()
    expected = {key: one.grad.clone() for key, one in module.named_parameters()}
    module.zero_grad()
    row = torch.cat([*documents, torch.zeros(1, pad, dtype=torch.long)], 1)
    goal = torch.cat([*goals, torch.full((1, pad), -1)], 1)
    segments = torch.cat([torch.full((1, size), i) for i, size in enumerate(lengths)] + [torch.full((1, pad), -1)], 1)
    positions = torch.cat([torch.arange(size) for size in [*lengths, pad]])[None]
    out = module(row, positions=positions, segments=segments, targets=goal, asks={"logprob"}).logprob
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert (out[:, :-pad] - torch.cat(outs, 1)).abs().max() < 1e-5
    for key, one in module.named_parameters():
        assert (one.grad - expected[key]).abs().max() < 1e-5 * max(1.0, expected[key].abs().max().item()), key


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", list(SPECS))
def test_padding_changes_nothing(name: str, side: str) -> None:
    module, ids = made(SPECS[name]), tokens(2, 9)
    at = slice(3, 12) if side == "left" else slice(0, 9)
    wide, segments = torch.zeros(2, 12, dtype=torch.long), torch.full((2, 12), -1)
    positions = torch.zeros(2, 12, dtype=torch.long)
    wide[:, at], segments[:, at], positions[:, at] = ids, 5, torch.arange(9)
    with torch.no_grad():
        got = all_logprobs(module, wide, positions=positions, segments=segments)
        assert torch.isfinite(got).all()
        assert (got[:, at] - all_logprobs(module, ids)).abs().max() < 1e-5


@pytest.mark.parametrize("name", [*SPECS, "long window"])
def test_a_cache_changes_nothing(name: str) -> None:
    spec = replace(LLAMA, window=40) if name == "long window" else SPECS[name]
    module, ids = made(replace(spec, context=256)), tokens(2, 150)
    with torch.inference_mode():
        out, at = module(ids[:, :5], asks={"next_logits"}), 5
        # Single tokens, runs of them, past the first store (64 columns) more than once: a window drops columns there.
        for size in (1, 1, 7, 1, 49, 1, 1, 30, 1, 20, 30, 1, 1):
            out = module(ids[:, at : at + size], asks={"next_logits"}, cache=out.cache)
            at += size
            expected = module(ids[:, :at], asks={"next_logits"}).next_logits
            assert (out.next_logits - expected).abs().max() < 1e-5
    if name == "long window":
        assert out.cache.length < at


@pytest.mark.parametrize("name", list(SPECS))
def test_bfloat16_stays_close_and_the_stream_float32(name: str) -> None:
    """Packed, so that the plain products of bfloat16 training meet each switch's mask."""
    module, ids = made(SPECS[name]), tokens(2, 24)
    segments = (torch.arange(24) >= torch.tensor([[10], [24]])).long()
    exact = module(ids, segments=segments, targets=ids, asks={"logprob"}).logprob
    streams: list[torch.dtype] = []
    for layer in module.model.layers:
        layer.register_forward_hook(lambda _module, _inputs, out: streams.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(ids, segments=segments, targets=ids, asks={"logprob"}).logprob
    assert rough.dtype == torch.float32
    assert streams == [torch.float32] * len(module.model.layers)
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()
    rough.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())


def rows_alone(module: nn.Module, prompts: list[torch.Tensor], fed: torch.Tensor) -> torch.Tensor:
    """(steps, B, V): each row read whole, by itself."""
    return torch.stack(
        [
            torch.cat(
                [
                    module(torch.cat((prompt, fed[row, : step + 1]))[None], asks={"next_logits"}).next_logits
                    for row, prompt in enumerate(prompts)
                ]
            )
            for step in range(fed.shape[1])
        ]
    )


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_rows_that_are_joined_and_taken_out_go_on_as_alone(data: st.DataObject) -> None:
    module = made(SPECS[data.draw(st.sampled_from(list(SPECS)))])
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    prompts = [tokens(1, size, seed=10 + n)[0] for n, size in enumerate(lengths)]
    fed = tokens(len(lengths), 8, seed=3)
    with torch.inference_mode():
        expected = rows_alone(module, prompts, fed)
        running: list[int] = []
        cache: Any = None
        read = dict.fromkeys(range(len(lengths)), 0)
        for _ in range(12):
            waiting = [row for row in range(len(lengths)) if row not in running and read[row] == 0]
            action = data.draw(st.sampled_from(["join", "select", "step"]))
            if (action == "join" or not running) and waiting:
                row = data.draw(st.sampled_from(waiting))
                new = module(prompts[row][None], asks={"next_logits"}).cache
                assert isinstance(new, RowCache)
                front = data.draw(st.booleans())
                cache = new if not running else (new.join(cache) if front else cache.join(new))
                running = [row, *running] if front else [*running, row]
            elif action == "select" and running:
                kept = data.draw(st.permutations(range(len(running))))[: data.draw(st.integers(1, len(running)))]
                cache, running = cache.select(kept), [running[at] for at in kept]
            if not running or any(read[row] == fed.shape[1] for row in running):
                continue
            now = torch.stack([fed[row, read[row]] for row in running])[:, None]
            at = torch.tensor([[lengths[row] + read[row]] for row in running])
            given_at = {"positions": at} if data.draw(st.booleans()) else {}
            out = module(now, asks={"next_logits"}, cache=cache, **given_at)
            cache = out.cache
            for place, row in enumerate(running):
                assert (out.next_logits[place] - expected[read[row], row]).abs().max() < 1e-5
                read[row] += 1


def test_a_row_taken_out_frees_the_padding_that_it_needed() -> None:
    module = made(SPECS["mistral"])
    with torch.inference_mode():
        long, short = (module(tokens(1, size), asks={"next_logits"}).cache for size in (40, 3))
        both = long.join(short)
        assert both.length == 40
        left = both.select([1])
    assert left.length == 3
    assert left.segments is None


# --- attention alone -------------------------------------------------------------------------------------------------


def test_slopes_are_those_of_bloom() -> None:
    modeling = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    for heads in (1, 2, 5, 6, 8, 12, 71, 112):
        theirs = modeling.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
        assert torch.allclose(torch.tensor(alibi.slopes(heads)), theirs, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ["falcon 7b", "bloom, 6 heads", "alibi, grouped", "mistral", "alibi in a window"])
@pytest.mark.parametrize("packed", [False, True])
def test_flex_attention_equals_the_mask(name: str, packed: bool) -> None:
    spec, length = SPECS[name], 37
    ids = tokens(2, length)
    segments = None
    if packed:
        segments = torch.tensor([[0] * 20 + [1] * 10 + [-1] * 7, [-1] * 5 + [0] * 32])
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(2, heads, length, spec.head_dim, generator=generator)
        for heads in (spec.heads, spec.kv_heads, spec.kv_heads)
    )
    masked = attend(query, keys, values, view(ids, segments, None, spec, torch.float32, flex=False))
    blocks = view(ids, segments, None, spec, torch.float32, flex=True)
    if name != "falcon 7b" or packed:
        assert blocks.blocks is not None
        assert view(ids, segments, None, spec, torch.float32).blocks is None  # on a processor, by default
    assert (attend(query, keys, values, blocks) - masked).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["mistral", "alibi, grouped"])
def test_keys_are_not_copied_for_the_queries_that_share_them(name: str) -> None:
    from torch.profiler import ProfilerActivity, profile

    spec = SPECS[name]
    query, keys = torch.randn(2, 4, 30, 8), torch.randn(2, 2, 30, 8)
    seen = view(tokens(2, 30), None, None, spec, torch.float32)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        attend(query, keys, keys, seen)
    assert not {event.key for event in watched.key_averages()} & {"aten::repeat_interleave", "aten::index_select"}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in {event.key for event in watched.key_averages()}


@pytest.mark.parametrize("name", list(SPECS))
def test_parameters_are_those_that_the_kit_expects_of_the_spec(name: str) -> None:
    from lmgraft.testing.modules import decoder_shapes

    found = {key: tuple(one.shape) for key, one in made(SPECS[name]).named_parameters()}
    assert found == decoder_shapes(SPECS[name], V)
