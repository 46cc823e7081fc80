"""``linear``, ``slerp`` and ``ties`` beside plain references in torch, written from the papers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lmgraft.artifacts import blocks, checkpoint
from lmgraft.errors import UserError
from lmgraft_merges.linear import Linear
from lmgraft_merges.plugin import Dtype, LinearConfig, Sign, SlerpConfig, TiesConfig
from lmgraft_merges.slerp import Slerp
from lmgraft_merges.ties import Ties

State = dict[str, torch.Tensor]


def llama(folder: Path, seed: int, dtype: torch.dtype = torch.float32, layers: int = 3, **changes: Any) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.LlamaConfig(
        **{**sizes, "vocab_size": 40, "num_hidden_layers": layers, "initializer_range": 0.5, **changes}
    )
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of a few hundred elements are then of many blocks, and of several tasks."""
    monkeypatch.setattr(blocks, "BLOCK", 61)


def states(folders: Sequence[Path]) -> list[State]:
    return [dict(checkpoint.tensors(folder)) for folder in folders]


def merged(part: Any, folders: Sequence[Path], out: Path) -> State:
    part.merge(folders, out)
    transformers.LlamaForCausalLM.from_pretrained(out)
    return dict(checkpoint.tensors(out))


def equal(found: State, expected: Callable[[str, list[torch.Tensor]], torch.Tensor], given: list[State]) -> None:
    assert found.keys() == given[0].keys()
    for name in found:
        told = expected(name, [state[name].double() for state in given])
        assert (found[name].double() - told).abs().max() <= 1e-6 * max(1.0, float(told.abs().max())), name


# --- linear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [0.2, 0.3, 0.5], [1.0, -2.0, 4.0]])
@pytest.mark.parametrize("normalize", [True, False])
def test_linear(tmp_path: Path, weights: list[float] | None, normalize: bool) -> None:
    folders = [llama(tmp_path / str(seed), seed) for seed in range(3)]
    factors = weights or [1.0] * 3
    found = merged(Linear(LinearConfig(weights=weights, normalize=normalize)), folders, tmp_path / "out")

    def expected(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        total = sum(factor * tensor for factor, tensor in zip(factors, tensors, strict=True))
        return total / sum(factors) if normalize else total  # type: ignore[return-value]

    equal(found, expected, states(folders))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_models_are_computed_in_float32_and_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    folders = [llama(tmp_path / str(seed), seed, dtype) for seed in range(2)]
    found = merged(Linear(LinearConfig(weights=[0.3, 0.6], normalize=False)), folders, tmp_path / "out")
    one, two = states(folders)
    for name in found:
        told = (one[name].float() * 0.3 + two[name].float() * 0.6).to(dtype)
        assert torch.equal(found[name], told), name
    assert checkpoint.read_config(tmp_path / "out")["dtype"] == str(dtype).removeprefix("torch.")


def test_another_dtype_is_written_and_told(tmp_path: Path) -> None:
    folders = [llama(tmp_path / "a", 0), llama(tmp_path / "b", 1, torch.bfloat16)]
    found = merged(Linear(LinearConfig(dtype=Dtype.bfloat16)), folders, tmp_path / "out")
    one, two = states(folders)
    assert all(torch.equal(found[name], ((one[name] + two[name].float()) / 2).bfloat16()) for name in found)
    assert checkpoint.read_config(tmp_path / "out")["dtype"] == "bfloat16"


def test_the_same_models_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [llama(tmp_path / str(seed), seed, torch.bfloat16) for seed in range(3)]
    for part in (Linear(LinearConfig()), Ties(TiesConfig(density=0.3))):
        for out in ("one", "two"):
            part.merge(folders, tmp_path / type(part).__name__ / out)
        one, two = (tmp_path / type(part).__name__ / out for out in ("one", "two"))
        assert all((one / file.name).read_bytes() == file.read_bytes() for file in two.iterdir())


# --- slerp ------------------------------------------------------------------------------------------------------------


def arc(t: float, a: torch.Tensor, b: torch.Tensor, threshold: float = 0.9995) -> torch.Tensor:
    """Shoemake's formula, with the angle of the directions."""
    lengths = [x.norm().item() if x.norm() > 1e-8 else 1.0 for x in (a, b)]
    cosine = max(-1.0, min(1.0, (a.flatten() @ b.flatten()).item() / (lengths[0] * lengths[1])))
    if abs(cosine) > threshold:
        return (1 - t) * a + t * b
    omega = math.acos(cosine)
    return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp(tmp_path: Path, t: float) -> None:
    folders = [llama(tmp_path / str(seed), seed) for seed in range(2)]
    found = merged(Slerp(SlerpConfig(t=t)), folders, tmp_path / "out")
    equal(found, lambda name, tensors: arc(t, *tensors), states(folders))


def test_slerp_of_parallel_opposite_and_zero_tensors(tmp_path: Path) -> None:
    folders = [llama(tmp_path / str(seed), seed) for seed in range(2)]
    state = dict(checkpoint.tensors(folders[1]))
    state["model.layers.0.mlp.up_proj.weight"] = (
        1.1 * checkpoint.tensors(folders[0])["model.layers.0.mlp.up_proj.weight"]
    )
    state["model.layers.1.mlp.up_proj.weight"] = -checkpoint.tensors(folders[0])["model.layers.1.mlp.up_proj.weight"]
    state["model.layers.2.mlp.up_proj.weight"] = torch.zeros(48, 32)
    checkpoint.write(folders[1], state, checkpoint.read_config(folders[1]))
    found = merged(Slerp(SlerpConfig(t=0.4)), folders, tmp_path / "out")
    equal(found, lambda name, tensors: arc(0.4, *tensors), states(folders))
    assert found["model.layers.1.mlp.up_proj.weight"].isfinite().all()


def test_t_along_the_layers(tmp_path: Path) -> None:
    folders = [llama(tmp_path / str(seed), seed, layers=5) for seed in range(2)]
    config = SlerpConfig(t=0.5, gradients={"self_attn": [0, 0.5, 1], "mlp|lm_head": [0.9], "q_proj": [0.7]})
    found = merged(Slerp(config), folders, tmp_path / "out")

    def place(name: str) -> float:
        if "self_attn" in name:
            return int(name.split(".")[2]) / 4
        return 0.9 if "mlp" in name or "lm_head" in name else 0.5

    equal(found, lambda name, tensors: arc(place(name), *tensors), states(folders))


# --- ties -------------------------------------------------------------------------------------------------------------


def ties(base: torch.Tensor, others: list[torch.Tensor], config: TiesConfig) -> torch.Tensor:
    """Algorithm 1 of the paper, a tensor at a time, with weights."""
    weights = config.weights or [1.0] * len(others)
    densities = config.densities or [config.density] * len(others)
    changes = []
    for other, weight, density in zip(others, weights, densities, strict=True):
        change = (other.float() - base.float()).double()  # ranked as float32 has them
        kept = change
        if density < 1:
            mask = torch.zeros(change.numel(), dtype=torch.float64)
            keep = max(1, int(density * change.numel())) if density > 0 else 0
            order = torch.sort(change.abs().flatten(), descending=True, stable=True).indices
            mask[order[:keep]] = 1
            kept = change * mask.view_as(change)
        if config.rescale and kept.abs().sum() > 1e-7:
            kept = kept * (change.abs().sum() / kept.abs().sum())
        changes.append(weight * kept)
    stacked = torch.stack(changes)
    votes = stacked.sign() if config.sign is Sign.count else stacked
    elected = torch.where(votes.sum(0) >= 0, 1.0, -1.0)
    agrees = stacked.sign() == elected
    total = (stacked * agrees).sum(0)
    if config.normalize:
        divisor = (torch.tensor(weights).view(-1, *[1] * base.dim()) * agrees).sum(0)
        total = total / torch.where(divisor == 0, 1, divisor)
    return base + config.scale * total


@pytest.mark.parametrize(
    "config",
    [
        TiesConfig(),
        TiesConfig(density=1.0),
        TiesConfig(density=0.0),
        TiesConfig(density=1e-9),
        TiesConfig(densities=[0.7, 1.0, 0.1], weights=[0.5, 0.3, 0.9], scale=0.8),
        TiesConfig(density=0.5, sign=Sign.count),
        TiesConfig(density=0.5, normalize=False, weights=[0.4, 0.4, 0.4]),
        TiesConfig(density=0.5, rescale=True),
        TiesConfig(densities=[0.5, 0.0, 1.0], rescale=True, base=2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties(tmp_path: Path, config: TiesConfig, dtype: torch.dtype) -> None:
    folders = [llama(tmp_path / str(seed), seed, dtype) for seed in range(4)]
    found = merged(Ties(config), folders, tmp_path / "out")

    def expected(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        return ties(tensors[config.base], [*tensors[: config.base], *tensors[config.base + 1 :]], config)

    equal(found, expected, states(folders))


@pytest.mark.parametrize("rescale", [False, True])
def test_equal_magnitudes_at_the_limit_go_to_those_that_come_first(tmp_path: Path, rescale: bool) -> None:
    """Changes of +-1/4 and +-1/2 alone, as coarse dtypes have them: which are kept is not left to chance."""
    base = llama(tmp_path / "base", 0)
    folders = [base]
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = {
            name: torch.full_like(tensor, 2.0) + torch.randint(-2, 3, tensor.shape) / 4
            for name, tensor in checkpoint.tensors(base).items()
        }
        checkpoint.write(tmp_path / str(seed), state, checkpoint.read_config(base))
        folders.append(tmp_path / str(seed))
    twos = {name: torch.full_like(tensor, 2.0) for name, tensor in checkpoint.tensors(base).items()}
    checkpoint.write(base, twos, checkpoint.read_config(base))
    config = TiesConfig(density=0.5, rescale=rescale)
    found = merged(Ties(config), folders, tmp_path / "out")
    equal(found, lambda name, tensors: ties(tensors[0], tensors[1:], config), states(folders))


def test_models_that_are_the_base_give_the_base(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", 0, torch.bfloat16)
    found = merged(Ties(TiesConfig(density=0.3)), [base, base, base], tmp_path / "out")
    assert all(torch.equal(found[name], tensor) for name, tensor in checkpoint.tensors(base).items())


# --- what cannot be merged --------------------------------------------------------------------------------------------


def spoiled(tmp_path: Path, what: str) -> Path:
    """A model that does not go with another of :func:`llama`'s."""
    folder = tmp_path / "other"
    if what == "shapes":
        return llama(folder, 1, intermediate_size=64)
    if what == "vocabulary":
        return llama(folder, 1, vocab_size=44)
    if what == "depth":
        return llama(folder, 1, layers=4)
    if what == "dtype":
        return llama(folder, 1, torch.bfloat16)
    if what == "tied":
        return llama(folder, 1, tie_word_embeddings=True)
    if what == "heads":
        return llama(folder, 1, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    llama(folder, 1)
    config, state = checkpoint.read_config(folder), dict(checkpoint.tensors(folder))
    if what == "quantised":
        config["quantization_config"] = {"quant_method": "gptq"}
    if what == "nan":
        state["model.layers.1.mlp.up_proj.weight"][3, 4] = math.nan
    if what == "infinite":
        state["model.norm.weight"][0] = math.inf
    if what == "integers":
        state = {name: tensor.to(torch.int8) for name, tensor in state.items()}
    checkpoint.write(folder, state, config)
    return folder


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("shapes", "down_proj.weight is 32 x 48 in the one and 32 x 64 in the other"),
        ("vocabulary", "their vocabularies differ"),
        ("depth", "num_hidden_layers is 3 in the one and 4 in the other"),
        ("dtype", "is float32 in the one and bfloat16 in the other"),
        ("tied", "the head of one is its embedding"),
        ("heads", "num_attention_heads is 2 in the one and 4 in the other"),
        ("quantised", "packed numbers cannot be computed with"),
        ("nan", "holds NaN"),
        ("infinite", "holds an infinite number"),
        ("integers", "is F32 and I8"),
    ],
)
@pytest.mark.parametrize("part", [Linear(LinearConfig()), Slerp(SlerpConfig()), Ties(TiesConfig())])
def test_models_that_do_not_go_together_are_refused(tmp_path: Path, part: Any, what: str, cause: str) -> None:
    folders = [llama(tmp_path / "one", 0), spoiled(tmp_path, what)]
    with pytest.raises(UserError, match=cause) as caught:
        part.merge(folders, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 3
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_numbers_that_do_not_fit_are_told(tmp_path: Path) -> None:
    folders = [llama(tmp_path / str(seed), seed, torch.float16) for seed in range(2)]
    with pytest.raises(UserError, match="too large for F16"):
        Linear(LinearConfig(weights=[1e6, 1.0], normalize=False)).merge(folders, tmp_path / "out")


@pytest.mark.parametrize(
    ("part", "count", "said"),
    [
        (Linear(LinearConfig()), 1, "linear takes 2 models or more\n.*it is given 1"),
        (Slerp(SlerpConfig()), 3, "slerp takes 2 models\n.*it is given 3"),
        (Ties(TiesConfig()), 1, "ties takes 2 models or more"),
        (Linear(LinearConfig(weights=[0.5])), 2, r"one is given for 2 models\n.*weights=\[0.5,0.5\]"),
        (Ties(TiesConfig(weights=[0.5, 0.5])), 2, "2 are given for 1 model beside the base"),
        (Ties(TiesConfig(densities=[0.5] * 3)), 3, "3 are given for 2 models beside the base"),
        (Ties(TiesConfig(base=2)), 2, "base=2 is no model"),
    ],
)
def test_counts_that_do_not_match(tmp_path: Path, part: Any, count: int, said: str) -> None:
    folder = llama(tmp_path / "one", 0)
    with pytest.raises(UserError, match=said):
        part.merge([folder] * count, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "config",
    [
        LinearConfig(weights=[math.nan, 1]),
        LinearConfig(weights=[1.0, -1.0]),
        LinearConfig(weights=[]),
        LinearConfig(weights=[1e39, 1.0]),
        LinearConfig(weights=[0.0, 0.0]),
        LinearConfig(weights=[0.0, 0.0], normalize=False),
        SlerpConfig(t=math.inf),
        SlerpConfig(t=math.nan),
        SlerpConfig(t=1.01),
        SlerpConfig(t=-0.01),
        SlerpConfig(gradients={"mlp": [0.0, 1.0], "attn": [0.5, 2.0]}),
        SlerpConfig(gradients={"(": [0.5]}),
        SlerpConfig(gradients={"a": []}),
        SlerpConfig(threshold=1.0),
        SlerpConfig(eps=0.0),
        TiesConfig(density=1.5),
        TiesConfig(density=math.nan),
        TiesConfig(densities=[-0.1]),
        TiesConfig(base=-1),
        TiesConfig(weights=[math.inf]),
    ],
)
def test_settings_that_mean_nothing(config: Any) -> None:
    assert len(list(config.check())) == 1


def test_masks_that_all_models_have_alike_are_kept(tmp_path: Path) -> None:
    folders = []
    for seed in range(2):
        folder = llama(tmp_path / str(seed), seed)
        state = dict(checkpoint.tensors(folder)) | {"model.mask": torch.ones(3, 3, dtype=torch.bool).tril()}
        checkpoint.write(folder, state, checkpoint.read_config(folder))
        folders.append(folder)
    Linear(LinearConfig()).merge(folders, tmp_path / "out")
    assert torch.equal(checkpoint.tensors(tmp_path / "out")["model.mask"], torch.ones(3, 3).tril().bool())
    state = dict(checkpoint.tensors(folders[1])) | {"model.mask": torch.zeros(3, 3, dtype=torch.bool)}
    checkpoint.write(folders[1], state, json.loads((folders[1] / "config.json").read_text()))
    with pytest.raises(UserError, match=r"model\.mask is BOOL"):
        Linear(LinearConfig()).merge(folders, tmp_path / "other")
