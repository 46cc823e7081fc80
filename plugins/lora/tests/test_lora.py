"""LoRA in every family: nothing at the start, folded to the same answers, as transformers reads them too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.testing import modules
from lmgraft.training import int8, weights
from lmgraft.training.bfloat16 import Bfloat16Linear
from lmgraft_lora.plugin import LoraConfig

sys.path.insert(0, str(Path(__file__).parent))

from lora_cases import FAMILIES, HUGGING, VOCABULARY, adapted, disturb, family, ids, logprob, part, plain


@pytest.mark.parametrize(
    ("name", "base"),
    [*((name, "float32") for name in FAMILIES), *((name, base) for name in HUGGING for base in ("bfloat16", "int8"))],
)
def test_merged_equals_unmerged(name: str, base: str, tmp_path: Path) -> None:
    architecture, module = plain(name, tmp_path / "plain")
    made, changed = adapted(architecture, tmp_path / "plain", base=base)
    before = logprob(module)
    if base == "float32":
        assert torch.equal(logprob(changed), before)
    disturb(made, changed)
    weights.export(tmp_path / "merged", weights.canonical(changed), made, VOCABULARY)
    merged = weights.materialise(architecture, VOCABULARY, "cpu").eval()
    weights.load_into(merged, architecture, tmp_path / "merged")
    assert float((logprob(merged) - logprob(changed)).abs().max()) < 1e-5
    assert float((logprob(changed) - before).abs().max()) > 1e-3
    files = (tmp_path / at / "config.json" for at in ("plain", "merged"))
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.parametrize("name", HUGGING)
def test_transformers_gives_the_adapted_answers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    architecture, _ = plain(name, tmp_path / "plain")
    made, changed = adapted(architecture, tmp_path / "plain")
    disturb(made, changed)
    weights.export(tmp_path / "merged", weights.canonical(changed), made, VOCABULARY)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        answers = theirs(ids()).logits.log_softmax(-1).gather(-1, ids(seed=1)[..., None])[..., 0]
    assert float((answers - logprob(changed)).abs().max()) < 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_not_trained_is_exported_bit_for_bit(name: str, tmp_path: Path) -> None:
    """As the layers beside ``trainable_layers`` are: negative zeros stay negative too."""
    architecture, module = plain(name, tmp_path / "plain")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter[::2] = -0.0
    weights.export(tmp_path / "plain", weights.canonical(module), architecture, VOCABULARY)
    made, changed = adapted(architecture, tmp_path / "plain")
    weights.export(tmp_path / "folded", weights.canonical(changed), made, VOCABULARY)
    first, second = ((tmp_path / at / "model.safetensors").read_bytes() for at in ("plain", "folded"))
    assert first == second


@pytest.mark.parametrize("name", FAMILIES)
def test_generation_is_of_the_folded_weights(name: str, tmp_path: Path) -> None:
    architecture, _ = plain(name, tmp_path)
    made, changed = adapted(architecture, tmp_path)
    disturb(made, changed)
    asks = frozenset({"next_logits"})
    with torch.no_grad():
        expected, found = changed(ids(), asks=asks).next_logits, changed.generation()(ids(), asks=asks).next_logits
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("settings", "scale"),
    [({"rank": 4}, 4.0), ({"rank": 4, "rslora": True}, 8.0), ({"rank": 16, "alpha": 8.0}, 0.5)],
)
def test_the_scale_is_alpha_over_the_rank_or_its_root(settings: dict[str, Any], scale: float, tmp_path: Path) -> None:
    architecture, module = plain("llama", tmp_path)
    made, changed = adapted(architecture, tmp_path, targets=["query"], **settings)
    tensors = weights.canonical(changed)
    target = "model.layers.1.self_attn.q_proj"
    assert tensors[f"{target}.lora_a"].shape == (settings["rank"], 32)
    tensors[f"{target}.lora_b"].normal_(generator=torch.Generator().manual_seed(0))
    expected = module.get_parameter(f"{target}.weight") + scale * (
        tensors[f"{target}.lora_b"] @ tensors[f"{target}.lora_a"]
    )
    torch.testing.assert_close(made.to_hub(tensors)[f"{target}.weight"], expected)  # type: ignore[attr-defined]
    for kept in ("model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight"):
        assert torch.equal(made.to_hub(tensors)[kept], module.get_parameter(kept))  # type: ignore[attr-defined]


def test_a_starts_uniform_within_one_over_the_root_of_its_width() -> None:
    made = part("adapter", "lora").adapt(family("llama"))
    tensor = torch.empty(64, 400)
    made.fill_new("x.lora_a", tensor, torch.Generator().manual_seed(0))
    assert 0.0499 < float(tensor.abs().max()) <= 0.05
    assert float(tensor.std()) == pytest.approx(0.05 / 3**0.5, rel=0.02)
    made.fill_new("x.lora_b", tensor, torch.Generator())
    assert not tensor.any()


def test_every_tensor_has_its_own_start_and_the_seed_decides(tmp_path: Path) -> None:
    architecture, _ = plain("llama", tmp_path)
    made = part("adapter", "lora").adapt(architecture)
    found = []
    for seed in (3, 3, 4):
        module = weights.materialise(made, VOCABULARY, "cpu")
        weights.load_into(module, made, tmp_path, seed)
        found.append([module.get_parameter(f"model.layers.{i}.self_attn.q_proj.lora_a") for i in range(2)])
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[0][1])
    assert not torch.equal(found[0][0], found[2][0])


def test_roles_say_what_is_the_adapters_and_in_which_layer() -> None:
    made = part("adapter", "lora", targets=["value"]).adapt(family("llama"))
    found = {name: made.role(name) for name, _ in made.build(VOCABULARY).named_parameters()}
    own = {name: role.layer for name, role in found.items() if role.role is Role.ADAPTER}
    assert own == {f"model.layers.{i}.self_attn.v_proj.lora_{which}": i for i in range(2) for which in "ab"}
    assert found["model.layers.1.self_attn.v_proj.weight"].role is Role.VALUE
    assert made.spec() is None
    assert made.context() == 64


def test_training_costs_two_thirds_of_the_weights_and_six_for_each_of_the_adapters() -> None:
    """With rank 8 and 32 columns the adapter is half as large as the model; a wide model shows what it spares."""
    inner = part("architecture", "llama", layers=4, hidden=1024, heads=8, kv_heads=8, mlp=2816, context=512)
    made = part("adapter", "lora").adapt(inner)
    matrices = 4 * (4 * 1024 * 1024 + 3 * 1024 * 2816)
    thin = 4 * 8 * (4 * (1024 + 1024) + 3 * (1024 + 2816))
    attention = 12 * 4 * 1024 * 512
    assert inner.flops(512) == 6 * matrices + attention
    assert made.flops(512) == pytest.approx(4 * matrices + attention + 6 * thin)
    routed = part("adapter", "lora", targets=["mlp_in"]).adapt(family("mixtral"))
    with_head = routed.inner.flops(8, 50) - (2 * routed.inner.flops(1, 50) - routed.inner.flops(2, 50)) / 3
    assert routed.flops(8, 50) - with_head == pytest.approx(6 * 2 * 2 * 8 * (32 + 48))  # 2 of 4 experts, 2 layers


# --- smaller bases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HUGGING)
def test_a_bfloat16_base_answers_as_the_rounded_model(name: str, tmp_path: Path) -> None:
    """Bit for bit; and near the one whose weights were not rounded."""
    architecture, module = plain(name, tmp_path)
    _, changed = adapted(architecture, tmp_path, base="bfloat16")
    held = {name: part for name, part in changed.named_modules() if isinstance(part, Bfloat16Linear)}
    assert held.keys() == set(int8.projections(module, architecture))
    before = logprob(module)
    assert float((logprob(changed) - before).abs().max()) < 0.05
    with torch.no_grad():
        for target, part in held.items():
            weight = module.get_parameter(f"{target}.weight")
            assert torch.equal(part.weight, weight.bfloat16())
            weight.copy_(weight.bfloat16())
    assert torch.equal(logprob(changed), logprob(module))
    assert not torch.equal(logprob(module), before)


@pytest.mark.parametrize("name", HUGGING)
def test_what_is_exported_is_the_rounded_base_and_the_adapter_in_float32(name: str, tmp_path: Path) -> None:
    architecture, module = plain(name, tmp_path / "plain")
    made, changed = adapted(architecture, tmp_path / "plain", base="bfloat16", targets=["query"], rank=4)
    disturb(made, changed)
    out = made.to_hub(weights.canonical(changed))  # type: ignore[attr-defined]
    with torch.no_grad():
        for target in int8.projections(module, architecture):
            weight = module.get_parameter(f"{target}.weight")
            weight.copy_(weight.bfloat16())
            if architecture.role(f"{target}.weight").role is Role.QUERY:
                a, b = (changed.get_parameter(f"{target}.lora_{which}") for which in "ab")
                weight += 4.0 * b @ a
    theirs = getattr(architecture, "to_hub", lambda tensors: tensors)(weights.canonical(module))
    assert out.keys() == theirs.keys()
    assert {tensor.dtype for tensor in out.values()} == {torch.float32}
    for key in out:
        torch.testing.assert_close(out[key], theirs[key], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", HUGGING)
def test_an_integer_base_answers_within_its_precision(name: str, tmp_path: Path) -> None:
    """As the plain model does whose weights were rounded so, and near the one whose were not."""
    architecture, module = plain(name, tmp_path)
    _, changed = adapted(architecture, tmp_path, base="int8")
    held = [name for name, part in changed.named_modules() if isinstance(part, int8.Int8Linear)]
    assert set(held) == set(int8.projections(module, architecture))
    before = logprob(module)
    assert float((logprob(changed) - before).abs().max()) < 0.1
    with torch.no_grad():
        for target in held:
            weight = module.get_parameter(f"{target}.weight")
            weight.copy_(int8.dequantise(*int8.quantise(weight)))
    assert float((logprob(changed) - logprob(module)).abs().max()) < 1e-5
    assert not torch.equal(logprob(module), before)


@pytest.mark.parametrize(("base", "last", "share"), [("bfloat16", "weight", 2), ("int8", "levels", 4)])
def test_a_smaller_base_takes_its_share_of_the_memory(base: str, last: str, share: int, tmp_path: Path) -> None:
    architecture, module = plain("llama", tmp_path)
    _, changed = adapted(architecture, tmp_path, base=base, rank=1)
    names = int8.projections(module, architecture)
    floats = sum(module.get_parameter(f"{name}.weight").nbytes for name in names)
    tensors = weights.canonical(changed)
    assert sum(tensors[f"{name}.{last}"].nbytes for name in names) == floats / share
    assert not [name for name, _ in changed.named_parameters() if name.removesuffix(".weight") in names]


@pytest.mark.parametrize(("base", "width"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_the_whole_weights_are_never_in_memory(base: str, width: int) -> None:
    """A device that holds the smaller base, and not the model as it was, can begin."""
    inner = part("architecture", "llama", layers=1, hidden=64, heads=2, kv_heads=2, mlp=256, context=8)
    made = part("adapter", "lora", base=base, rank=1).adapt(inner)
    with modules.allocations() as found:
        weights.materialise(made, 9, "cpu")
    assert found.largest == 64 * 256 * width


# --- what is refused --------------------------------------------------------------------------------------------------


def test_roles_that_a_model_lacks_are_passed_over_unless_all_are() -> None:
    made = part("adapter", "lora", targets=["mlp_gate", "mlp_in"]).adapt(family("gpt2"))
    assert all("up_proj" in name for name in made.targets.linears)
    with pytest.raises(UserError, match="nothing to adapt: targets is mlp_gate") as caught:
        part("adapter", "lora", targets=["mlp_gate"]).adapt(family("gpt2"))
    assert "targets=[query,key,value,attention_out,mlp_in,mlp_out]" in str(caught.value)


def test_matrices_of_no_role_are_adapted_where_they_are_asked_for() -> None:
    made = part("adapter", "lora", targets=["other"], rank=2).adapt(family("lstm"))
    own = {name: list(one.shape) for name, one in made.build(9).named_parameters() if made.adds(name)}
    assert len(own) == 2 * 2 * 4 * 2
    assert own["layers.1.forget_gate.parametrizations.state_weight.0.lora_a"] == [2, 32]
    assert made.adds("layers.1.forget_gate.parametrizations.state_weight.0.lora_a").endswith("gate.state_weight")
    assert made.role("layers.1.cell_gate.parametrizations.input_weight.original").layer == 1
    routers = part("adapter", "lora", targets=["other"]).adapt(family("mixtral"))
    assert set(routers.targets.linears) == {f"model.layers.{i}.mlp.router" for i in range(2)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["nothing to adapt: targets is query, key", "of the roles other", "targets=[other]"]),
        ({"targets": ["other"], "base": "int8"}, ["base=int8 would hold nothing", "no nn.Linear", "base=float32"]),
        ({"targets": ["other"], "base": "bfloat16"}, ["base=bfloat16 would hold nothing", "no nn.Linear", "float32"]),
        (
            {"targets": ["other"], "dropout": 0.1},
            ["dropout cannot be put to layers.0", "read as a matrix", "dropout=0"],
        ),
    ],
)
def test_a_model_without_projections_is_refused_in_three_lines(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        part("adapter", "lora", **settings).adapt(family("lstm"))
    said = str(caught.value).splitlines()
    assert len(said) == 3
    assert all(word in line for word, line in zip(words, said, strict=True)), said


def test_a_weight_that_is_no_matrix_is_refused() -> None:
    class Other:
        def build(self, vocab_size: int, device: str = "meta") -> torch.nn.Module:
            return torch.nn.Conv1d(4, 4, 3, device=device)

        def role(self, name: str) -> TensorRole:
            return TensorRole(Role.BIAS if name == "bias" else Role.MLP_IN)

    with pytest.raises(UserError, match="lora cannot be put to weight") as caught:
        part("adapter", "lora").adapt(Other())
    assert "has 3 dimensions" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"targets": []}, "targets"),
        ({"targets": ["nose"]}, "nose"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], word: str) -> None:
    assert any(word in said for said in LoraConfig(**settings).check())
    assert not list(LoraConfig().check())
