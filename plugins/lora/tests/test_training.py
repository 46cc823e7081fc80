"""LoRA while it is trained: frozen weights keep their bits, steps are peft's, memory is the adapter's alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.seams.architecture import Role
from lmgraft.training import weights
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from lora_cases import BASES, RATE, VOCABULARY, Work, adapted, batch, ids, part, plain, plan

LAYOUTS: dict[str, dict[str, Any]] = {"single": {"threads": 1}, "ddp": {"ranks": 2, "threads": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """(layout, base) -> what five steps left."""
    root = tmp_path_factory.mktemp("trained")
    plain("llama", root / "plain")
    found = {}
    for layout, settings in LAYOUTS.items():
        for base in BASES:
            found[layout, base] = root / layout / base
            for folder in ("start", "end", "model"):
                (found[layout, base] / folder).mkdir(parents=True)
        work = Work(root / "plain", root / layout, ["query", "value", "mlp_out"])
        part("parallelism", layout, **settings).launch(work)
    return found


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frozen_weights_keep_every_bit(layout: str, base: str, trained: dict[tuple[str, str], Path]) -> None:
    start, end = (load_file(trained[layout, base] / at / "model.safetensors") for at in ("start", "end"))
    assert start.keys() == end.keys()
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved == {name for name in start if name.endswith((".lora_a", ".lora_b"))}
    assert len(moved) == 2 * 2 * 3
    plain_folder = trained[layout, base].parents[1] / "plain"
    theirs = load_file(plain_folder / "model.safetensors")
    out = load_file(trained[layout, base] / "model" / "model.safetensors")
    assert theirs.keys() == out.keys()
    kept = {name for name in out if torch.equal(theirs[name], out[name])}
    aside = {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"}
    untouched = {f"model.layers.{i}.{one}.weight" for i in range(2) for one in ("self_attn.k_proj", "mlp.up_proj")}
    assert aside | (untouched if base == "float32" else set()) <= kept
    if base == "bfloat16":
        held = {name for name, tensor in end.items() if tensor.dtype is torch.bfloat16}
        assert held == {name for name in theirs if "_proj" in name}
        assert all(torch.equal(end[name], theirs[name].bfloat16()) for name in held)
        assert all(torch.equal(out[name], end[name].float()) for name in untouched)
        assert {tensor.dtype for tensor in out.values()} == {torch.float32}
    assert not any("q_proj" in name for name in kept)


@pytest.mark.parametrize("base", BASES)
def test_two_replicas_train_as_one(base: str, trained: dict[tuple[str, str], Path]) -> None:
    one, two = (load_file(trained[layout, base] / "end" / "model.safetensors") for layout in LAYOUTS)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), atol=1e-5, rtol=1e-4)


def test_the_optimizer_holds_the_adapter_alone(trained: dict[tuple[str, str], Path]) -> None:
    held = load_file(trained["single", "float32"] / "end" / "optimizer.safetensors")
    assert held
    assert all("lora_a" in name or "lora_b" in name for name in held)


@pytest.mark.parametrize("base", BASES)
def test_no_gradient_is_made_for_what_is_frozen(base: str, tmp_path: Path) -> None:
    """Nor a product that would have it: what autograd keeps of a projection is not its input."""
    from lmgraft_data_parallel.engine import SingleEngine

    plain("llama", tmp_path)
    engine = SingleEngine(plan("llama", tmp_path, {"base": base}))
    engine.forward_backward([batch(0)])
    reached = {name for name, parameter in engine._module.named_parameters() if parameter.grad is not None}
    assert reached == {name for name in engine.parameters() if "lora_" in name}


def steps(folder: Path, adapter: dict[str, Any], **changes: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of a few steps, and the adapter after them."""
    from lmgraft_data_parallel.engine import SingleEngine

    engine = SingleEngine(plan("llama", folder, adapter, **changes))
    losses = []
    for step in range(4):
        torch.manual_seed(step)
        losses.append(engine.forward_backward([batch(step)]).loss)
        engine.apply(RATE)
    tensors = weights.canonical(engine._module)
    return losses, {name: tensor for name, tensor in tensors.items() if "lora_" in name}


def test_with_bfloat16_products_steps_are_those_of_a_float32_base(tmp_path: Path) -> None:
    """Bit for bit: both multiply with the same rounded weights."""
    plain("llama", tmp_path)
    (losses, found), (others, expected) = (
        steps(tmp_path, {"base": base, "dropout": 0.1}, precision="bfloat16") for base in ("bfloat16", "float32")
    )
    assert losses == others
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_with_float32_products_steps_are_those_of_the_rounded_model(tmp_path: Path) -> None:
    """And near those of the one whose weights were not rounded."""
    architecture, module = plain("llama", tmp_path / "plain")
    losses, found = steps(tmp_path / "plain", {"base": "bfloat16"})
    near, _ = steps(tmp_path / "plain", {"base": "float32"})
    tensors = {
        name: tensor.bfloat16().float() if "_proj" in name else tensor
        for name, tensor in weights.canonical(module).items()
    }
    (tmp_path / "rounded").mkdir()
    weights.export(tmp_path / "rounded", tensors, architecture, VOCABULARY)
    others, expected = steps(tmp_path / "rounded", {"base": "float32"})
    assert losses == others
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert near != losses
    assert losses == pytest.approx(near, rel=2**-8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("base", BASES)
def test_the_loss_falls(base: str, precision: str, tmp_path: Path) -> None:
    from lmgraft_data_parallel.engine import SingleEngine

    plain("llama", tmp_path)
    engine = SingleEngine(plan("llama", tmp_path, {"base": base}, precision=precision))
    losses = []
    for _ in range(12):
        losses.append(engine.forward_backward([batch(0)]).loss)
        engine.apply(RATE)
    assert losses[-1] < losses[0] - 0.5


def test_experts_are_adapted_one_by_one(tmp_path: Path) -> None:
    from lmgraft_data_parallel.engine import SingleEngine

    plain("mixtral", tmp_path)
    engine = SingleEngine(plan("mixtral", tmp_path, {"targets": ["mlp_in", "mlp_gate", "mlp_out"]}))
    first = engine.forward_backward([batch(0)]).loss
    engine.apply(RATE)
    before = {name: one.clone() for name, one in weights.canonical(engine._module).items() if ".experts." in name}
    for step in range(4):
        last = engine.forward_backward([batch(step)]).loss
        engine.apply(RATE)
    moved = {name for name, one in before.items() if not torch.equal(one, engine._module.state_dict()[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 4 * 3 * 2
    assert last < first


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_a_step_that_is_repeated_drops_the_same_and_its_microbatches_do_not(tmp_path: Path) -> None:
    """The loop seeds torch's generator for each step and data rank, and each forward pass draws on from there."""
    from lmgraft_data_parallel.engine import SingleEngine

    plain("llama", tmp_path)
    engine = SingleEngine(plan("llama", tmp_path, {"dropout": 0.5}))
    engine.forward_backward([batch(0)])
    engine.apply(RATE)

    def loss(seed: int, times: int = 1) -> float:
        torch.manual_seed(seed)
        found = engine.forward_backward([batch(1)] * times).loss
        engine.discard()
        return found

    assert loss(1) == loss(1) != loss(2)
    assert abs(loss(1, times=2) - loss(1)) > 1e-4
    ((_, answers),) = engine.score(iter([batch(1)]), frozenset({"logprob"}))
    ((_, again),) = engine.score(iter([batch(1)]), frozenset({"logprob"}))
    assert torch.equal(answers.logprob, again.logprob)


# --- peft -------------------------------------------------------------------------------------------------------------

#: family -> our roles, and peft's modules; of GPT-2 those that transformers keeps whole.
TARGETS = {
    "llama": (
        ["query", "key", "value", "attention_out", "mlp_in", "mlp_gate", "mlp_out"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"],
    ),
    "gpt2": (["attention_out", "mlp_in", "mlp_out"], ["c_fc", "mlp.c_proj", "attn.c_proj"]),
}
THEIRS = {
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
    "model.layers.": "transformer.h.",
}


@pytest.mark.parametrize(
    ("name", "rslora", "dropout"),
    [("llama", False, 0.0), ("llama", True, 0.0), ("llama", False, 0.3), ("gpt2", False, 0.0), ("gpt2", True, 0.0)],
)
def test_steps_are_those_of_peft(name: str, rslora: bool, dropout: float, tmp_path: Path) -> None:
    """Those with dropout too: from one seed both drop the same numbers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    ours, theirs = TARGETS[name]
    architecture, _ = plain(name, tmp_path / "plain")
    settings: dict[str, Any] = {"rank": 4, "alpha": 12.0, "rslora": rslora, "dropout": dropout}
    made, module = adapted(architecture, tmp_path / "plain", targets=ours, **settings)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    config = LoraConfig(
        r=4, lora_alpha=12, use_rslora=rslora, target_modules=theirs, lora_dropout=dropout,
        fan_in_fan_out=name == "gpt2",
    )  # fmt: skip
    peft: Any = get_peft_model(model, config)
    for one in (module, peft):
        one.train(dropout > 0)
    _step(made, module, peft, name)
    own = {key: one for key, one in module.named_parameters() if made.role(key).role is Role.ADAPTER}
    other = dict(peft.named_parameters())
    for key, parameter in own.items():
        torch.testing.assert_close(parameter, other[_theirs(key, name)], atol=2e-5, rtol=1e-3)
    weights.export(tmp_path / "merged", weights.canonical(module), made, VOCABULARY)
    merged, expected = load_file(tmp_path / "merged" / "model.safetensors"), peft.merge_and_unload().state_dict()
    for key, tensor in merged.items():
        torch.testing.assert_close(tensor, expected[key], atol=2e-5, rtol=1e-3)


def _step(made: Any, module: torch.nn.Module, peft: Any, name: str) -> None:
    """A few steps of torch's AdamW on each, from the same A and B and over the same tokens."""
    own = {key: one for key, one in module.named_parameters() if made.role(key).role is Role.ADAPTER}
    other = dict(peft.named_parameters())
    with torch.no_grad():
        for key, parameter in own.items():
            other[_theirs(key, name)].copy_(parameter)
    trained = [other[_theirs(key, name)] for key in own]
    assert {id(one) for one in trained} == {id(one) for one in peft.parameters() if one.requires_grad}
    optimizers = [torch.optim.AdamW(group, lr=0.01, weight_decay=0.1) for group in (list(own.values()), trained)]
    for step in range(4):
        tokens = ids(seed=step)
        torch.manual_seed(step)
        answers = module(tokens, targets=tokens.roll(-1, 1), asks=frozenset({"logprob"})).logprob
        loss = -answers[:, :-1].mean()
        torch.manual_seed(step)
        theirs = peft(tokens, labels=tokens).loss
        assert float(theirs.detach()) == pytest.approx(float(loss.detach()), abs=1e-5)
        for optimizer, value in zip(optimizers, (loss, theirs), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def _theirs(key: str, name: str) -> str:
    found = key.replace("lora_a", "lora_A.default.weight").replace("lora_b", "lora_B.default.weight")
    for mine, other in THEIRS.items() if name == "gpt2" else ():
        found = found.replace(mine, other)
    return f"base_model.model.{found}"
