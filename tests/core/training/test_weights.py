from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft import loading
from lmgraft.artifacts import checkpoint
from lmgraft.errors import Fault, UserError
from lmgraft.seams.architecture import DecoderSpec, Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft.training import weights
from torch import nn
from writing_model import write_model


class Pair(nn.Module):
    def __init__(self, width: int, tied: bool, table: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, width)
        self.layer = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, 6, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        if table:
            self.register_buffer("table", torch.arange(width).float(), persistent=False)


class Architecture:
    def __init__(self, width: int = 4, tied: bool = False, table: bool = False, swap: bool = False) -> None:
        self.settings = (width, tied, table)

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        with torch.device(device):
            return Pair(*self.settings)

    def role(self, name: str) -> TensorRole:
        return TensorRole(Role.OTHER, int(name.split(".")[1]) if name.startswith("layer") else None)

    def spec(self) -> DecoderSpec | None:
        return None


class Record:
    def __init__(self) -> None:
        self.shapes: set[ModelShape] = set()
        self.roles: list[TensorRole] = []

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        self.shapes.add(shape)
        self.roles.append(role)
        assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
        tensor.normal_(generator=generator)


def made(seed: int = 1, **settings: Any) -> dict[str, torch.Tensor]:
    architecture: Any = Architecture(**settings)
    module = weights.materialise(architecture, 6, "cpu")
    weights.initialise(module, architecture, Record(), seed)
    return weights.canonical(module)


def test_each_tensor_depends_on_seed_and_name_alone() -> None:
    plain, tied, table = made(), made(tied=True), made(table=True)
    assert plain.keys() - tied.keys() == {"head.weight"}
    assert plain.keys() == table.keys()
    for other in (tied, table):
        assert all(torch.equal(tensor, plain[name]) for name, tensor in other.items())
    assert not torch.equal(made(seed=2)["embed.weight"], plain["embed.weight"])
    assert not torch.equal(plain["layer.0.weight"], plain["layer.1.weight"])


def test_seeds_are_pinned() -> None:
    # sha256 of "0:embed.weight" begins with these bytes; another seed would retrain every model.
    assert weights.tensor_seed(0, "embed.weight") == 7802378477145704647


def test_tied_tensors_stay_tied_and_tables_are_not_lost() -> None:
    architecture: Any = Architecture(tied=True)
    module: Any = weights.materialise(architecture, 6, "cpu")
    assert module.head.weight is module.embed.weight
    architecture = Architecture(table=True)
    module = weights.materialise(architecture, 6, "cpu")
    assert module.table.tolist() == [0, 1, 2, 3]


def test_the_initializer_learns_the_shape_and_the_roles() -> None:
    architecture: Any = Architecture(width=8)
    record = Record()
    weights.initialise(weights.materialise(architecture, 6, "cpu"), architecture, record, 0)
    assert record.shapes == {ModelShape(layers=2, hidden=8)}
    assert {role.layer for role in record.roles} == {None, 0, 1}


class Widths(Record):
    """Rules for learning rates: one over the size, times the layers."""

    def lr_scale(self, role: TensorRole, size: Sequence[int], shape: ModelShape) -> float:
        self.shapes.add(shape)
        return shape.layers / math.prod(size) if role.layer is not None else 2.0


def test_an_initializer_s_rules_give_each_parameter_its_learning_rate() -> None:
    architecture: Any = Architecture(width=4)
    shapes = {name: tensor.shape for name, tensor in architecture.build(6).named_parameters()}
    rules = Widths()
    roles = weights.tensor_roles(architecture, rules, shapes)
    assert {name: role.lr_scale for name, role in roles.items()} == {
        "embed.weight": 2.0,
        "layer.0.weight": 2 / 16, "layer.0.bias": 2 / 4, "layer.1.weight": 2 / 16, "layer.1.bias": 2 / 4,
        "head.weight": 2.0,
    }  # fmt: skip
    assert {name: replace(role, lr_scale=1.0) for name, role in roles.items()} == {
        name: architecture.role(name) for name in shapes
    }
    assert rules.shapes == {ModelShape(layers=2, hidden=4)}
    for plain in (None, Record()):
        assert weights.tensor_roles(architecture, plain, shapes) == {name: architecture.role(name) for name in shapes}


def test_a_learning_rate_that_is_none_is_the_initializer_s_fault() -> None:
    class Wrong(Record):
        def lr_scale(self, *_: Any) -> float:
            return 0.0

    architecture: Any = Architecture()
    with pytest.raises(Fault, match=r"Wrong.lr_scale gives 0.0 for embed.weight"):
        weights.tensor_roles(architecture, Wrong(), {"embed.weight": (6, 4)})


def test_a_decoder_s_spec_and_otherwise_its_roles_tell_of_heads() -> None:
    class Told(Architecture):
        def spec(self) -> DecoderSpec | None:
            sizes = {"layers": 3, "hidden": 64, "heads": 2, "kv_heads": 1, "mlp": 8, "context": 8}
            return DecoderSpec(**sizes, head_dim=48, tied=True)

    class Named(Architecture):
        def role(self, name: str) -> TensorRole:
            return TensorRole({"embed": Role.EMBEDDING, "head": Role.HEAD}.get(name.split(".")[0], Role.OTHER))

    def shape(architecture: Any) -> ModelShape:
        return weights.model_shape(architecture.build(6), architecture)

    assert shape(Told()) == ModelShape(layers=3, hidden=64, head_dim=48, tied=True)
    assert shape(Named()) == ModelShape(layers=1, hidden=4)
    assert shape(Named(tied=True)) == ModelShape(layers=1, hidden=4, tied=True)


def test_weights_are_loaded_in_any_dtype(tmp_path: Path) -> None:
    state = made()
    checkpoint.write(tmp_path, {name: tensor.bfloat16() for name, tensor in state.items()}, {"model_type": "pair"})
    architecture: Any = Architecture()
    module = weights.materialise(architecture, 6, "cpu")
    weights.load_into(module, architecture, tmp_path)
    for name, tensor in weights.canonical(module).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].bfloat16().float())


def test_a_stored_second_name_of_a_tied_tensor_is_accepted(tmp_path: Path) -> None:
    state = made()
    checkpoint.write(tmp_path, state, {"model_type": "pair"})
    architecture: Any = Architecture(tied=True)
    module = weights.materialise(architecture, 6, "cpu")
    weights.load_into(module, architecture, tmp_path)
    assert torch.equal(weights.canonical(module)["embed.weight"], state["embed.weight"])


def test_every_difference_is_named(tmp_path: Path) -> None:
    state = made(width=5)
    state["extra"] = state.pop("layer.1.bias")
    checkpoint.write(tmp_path, state, {"model_type": "pair"})
    architecture: Any = Architecture(width=4)
    with pytest.raises(UserError) as caught:
        weights.load_into(weights.materialise(architecture, 6, "cpu"), architecture, tmp_path)
    facts = [problem.fact for problem in caught.value.problems]
    assert f"{tmp_path}: embed.weight is 6 x 5" in facts
    assert f"{tmp_path} lacks the tensor layer.1.bias" in facts
    assert f"{tmp_path} holds the tensor extra" in facts
    assert len(facts) == 7


class Turned(Architecture):
    """Its Hugging Face class keeps one matrix transposed under another name."""

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        return {"model_type": "turned", "vocab_size": vocab_size}

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {
            name.replace("head", "crown"): tensor.t() if "head" in name else tensor for name, tensor in tensors.items()
        }

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {
            name.replace("crown", "head"): tensor.t() if "crown" in name else tensor for name, tensor in tensors.items()
        }


def test_differences_are_told_before_a_module_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setattr(weights, "materialise", lambda *_: pytest.fail("memory was taken"))
    for key, value, said in (
        ("vocab_size", 2_000_000_000, "model.embed_tokens.weight is 258 x 32"),
        ("intermediate_size", 2_000_000_000, "mlp.gate_proj.weight is 48 x 32"),
        ("num_hidden_layers", 1_000_000, "does not hold 1000000 layers"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UserError, match=said):
            loading.load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    assert weights.differences(loading.architecture_for(folder), 258, folder) == []


def test_a_folder_holds_what_the_hugging_face_class_holds(tmp_path: Path) -> None:
    architecture: Any = Turned()
    state = made()
    weights.export(tmp_path, state, architecture, 6)
    stored = checkpoint.tensors(tmp_path)
    assert stored.headers["crown.weight"].shape == (4, 6)
    assert checkpoint.read_config(tmp_path) == {"model_type": "turned", "vocab_size": 6}
    module = weights.materialise(architecture, 6, "cpu")
    weights.load_into(module, architecture, tmp_path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in weights.canonical(module).items())


def test_differences_are_told_in_canonical_names_and_shapes(tmp_path: Path) -> None:
    architecture: Any = Turned()
    weights.export(tmp_path, {"head.weight": torch.zeros(7, 4)}, architecture, 7)
    with pytest.raises(UserError) as caught:
        weights.load_into(weights.materialise(architecture, 6, "cpu"), architecture, tmp_path)
    facts = [problem.fact for problem in caught.value.problems]
    assert f"{tmp_path}: head.weight is 7 x 4" in facts
    assert f"{tmp_path} lacks the tensor embed.weight" in facts


def test_an_architecture_without_a_translation_has_none(tmp_path: Path) -> None:
    architecture: Any = Turned()
    architecture.to_hub = architecture.from_hub = None
    weights.export(tmp_path, made(), architecture, 6)
    assert "head.weight" in checkpoint.headers(tmp_path)
