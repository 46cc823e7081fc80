"""A train stage that trains some of a model's layers: which they are, and what is refused before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.artifacts import Artifact, checkpoint, layers
from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import DecoderSpec, Role
from lmgraft.stages import _frozen, _layers
from lmgraft.stages.plugin import TrainStage

sys.path.insert(0, str(Path(__file__).parent))

from train_context import PARTS, Context, make_tokens, stage

START = {"model": "grown", "initializer": None, "architecture": None}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    """Tokens, and a model of two layers that block expansion made four."""
    folder = tmp_path_factory.mktemp("grown")
    data = make_tokens(folder / "tokens")
    context = Context(folder / "small", {"data": [data]})
    stage(context, steps=3).run(context)
    component = registry().get("merge", "block_expansion").component
    out = folder / "out"
    from lmgraft.stages.merge import merge

    merge(build(component, component.config(every=1)), [context.out], out)
    return {"data": [data], "model": [Artifact("model", out, "1" * 64, "grown")]}


def trained(tmp_path: Path, inputs: dict[str, list[Artifact]], **settings: Any) -> tuple[Context, set[str]]:
    """The stage's context, and the names of the tensors of which a bit changed."""
    from safetensors.torch import load_file

    context = Context(tmp_path, inputs)
    del context.parts["architecture"]
    stage(context, **START, **settings).run(context)
    before, after = (checkpoint.tensors(at) for at in (inputs["model"][0].path, context.out))
    assert set(before) == set(after) == set(load_file(context.out / "model.safetensors"))
    changed = {name for name in before if before[name].numpy().tobytes() != after[name].numpy().tobytes()}
    return context, changed


def test_only_the_added_layers_are_trained_bit_for_bit(grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    context, changed = trained(tmp_path, grown, trainable_layers=["added"])
    names = checkpoint.headers(context.out)
    assert changed == {name for name in names if name.startswith(("model.layers.1.", "model.layers.3."))}
    assert len(changed) == 2 * 9
    assert "training the layers 1, 3 alone; the other weights are frozen" in context.notes


def test_a_trained_model_still_tells_what_was_added(grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    first, _ = trained(tmp_path / "first", grown, trainable_layers=["added"], steps=2)
    assert checkpoint.read_config(first.out)[layers.NEW_LAYERS] == [1, 3]
    again = grown | {"model": [Artifact("model", first.out, "4" * 64, "grown")]}
    _, changed = trained(tmp_path / "second", again, trainable_layers=["added"], steps=2)
    assert {name.split(".")[2] for name in changed} == {"1", "3"}


def test_roles_within_layers_and_those_named_outside(grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    context, changed = trained(tmp_path, grown, trainable=["mlp_out", "norm", "head"], trainable_layers=["0", "2"])
    inside = ("mlp.down_proj", "input_layernorm", "post_attention_layernorm")
    assert changed == {f"model.layers.{number}.{name}.weight" for number in (0, 2) for name in inside} | {
        "model.norm.weight", "lm_head.weight",
    }  # fmt: skip
    assert any("mlp_out, norm, head alone in the layers 0, 2 and outside of all" in note for note in context.notes)


def test_the_adapter_of_other_layers_adds_nothing(grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    context = Context(tmp_path, grown)
    component = registry().get("adapter", "lora").component
    context.parts["adapter"] = component, component.config(rank=2)
    context.parts["architecture"] = stage_architecture(4)
    stage(context, model="grown", initializer=None, trainable_layers=["added"]).run(context)
    before, after = (checkpoint.tensors(at) for at in (grown["model"][0].path, context.out))
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert {name.split(".")[2] for name in changed} == {"1", "3"}
    assert len(changed) == 2 * 7
    (note,) = (note for note in context.notes if note.startswith("training the adapter"))
    size = 2 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
    assert note == f"training the adapter lora in the layers 1, 3: {size:,} parameters; the others are frozen"


def stage_architecture(count: int) -> tuple[Any, Any]:
    component = registry().get("architecture", "llama").component
    return component, component.config(**{**PARTS["architecture"][1], "layers": count})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainable_layers": ["3-5"]}, ["names layers 4-5", "the model has 4 layers, 0 to 3"]),
        ({"trainable_layers": ["added", "4"]}, ["names layer 4", "name layers up to 3"]),
        (
            {"trainable_layers": ["1"], "trainable": ["embedding", "head"]},
            ["trainable=[embedding,head] leaves nothing to train in the layers", "attention_out, key, mlp_gate"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_work(
    settings: dict[str, Any], words: list[str], grown: dict[str, list[Artifact]], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        trained(tmp_path, grown, **settings)
    said = str(caught.value)
    assert [word for word in words if word not in said] == [], said
    assert len(said.splitlines()) == 3
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("told", [None, [], "1, 3", [1, "3"], [True], [-1]])
def test_a_model_without_added_layers_is_refused(told: Any, grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(grown["model"][0].path, tmp_path / "model")
    config = checkpoint.read_config(tmp_path / "model") | {layers.NEW_LAYERS: told}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    inputs = grown | {"model": [Artifact("model", tmp_path / "model", "5" * 64, "grown")]}
    with pytest.raises(UserError, match="trainable_layers names added, and there are none") as caught:
        trained(tmp_path / "run", inputs, trainable_layers=["added"])
    assert len(str(caught.value).splitlines()) == 3


def test_settings_that_mean_the_same_have_one_key(grown: dict[str, list[Artifact]], tmp_path: Path) -> None:
    def identity(*named: str) -> Any:
        context = Context(tmp_path, grown)
        return dict(stage(context, trainable_layers=list(named), model="grown").identity(context))

    assert identity("1-3", "added") == identity("added", "3", "2", "1", "1")
    assert identity("1-3") != identity("1-2")
    assert "trainable_layers" not in identity(), "stages of before keep their keys"


@pytest.mark.parametrize("name", ["new", "1..3", "-1", "3-1", "123456", "1-", "", ["1"]])
def test_what_is_no_layer_is_said(name: Any, tmp_path: Path) -> None:
    (said,) = stage(Context(tmp_path, {}), trainable_layers=[name]).config.check()
    assert said.startswith(f"trainable_layers names {name!r}")


@pytest.mark.parametrize(
    ("override", "found"), [("[3]", ["3"]), ("[24-31,added]", ["24-31", "added"]), ("[0,2-3]", ["0", "2-3"])]
)
def test_they_are_typed_as_they_are_told(override: str, found: list[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    value = OverridesParser.create().parse_override(f"trainable_layers={override}").value()
    node = OmegaConf.merge(OmegaConf.structured(TrainStage), {"trainable_layers": value})
    assert list(node.trainable_layers) == found


def of_recipe(api: int = 2, model: bool = True, adapter: bool = False, **settings: Any) -> list[str]:
    """What is refused with the recipe, before anything is built."""
    architecture = SimpleNamespace(seam="architecture", config=stage_architecture(4)[1])
    installed = SimpleNamespace(component=SimpleNamespace(api=api), row=SimpleNamespace(distribution="old-layouts"))
    layout = SimpleNamespace(seam="parallelism", config=SimpleNamespace(part="old"), installed=installed)
    parts = [architecture, layout, *([SimpleNamespace(seam="adapter")] if adapter else [])]
    node = SimpleNamespace(parts=parts, config=TrainStage(steps=1, **settings), inputs={"model": ("m",) * model})
    recipe: Any = SimpleNamespace(stage=lambda name: node)
    return [f"{problem.fact} | {problem.cause} | {problem.remedy}" for problem in _frozen.of_recipe(recipe, "sft")]


def test_a_layout_that_knows_of_no_layers_is_refused_where_some_are_named() -> None:
    (said,) = of_recipe(api=1, trainable_layers=["1"])
    assert said == (
        "sft.trainable_layers does not go together with the layout old | it speaks version 1 of the parallelism seam, "
        "layers came with 2: it would train all | parallelism@sft.parallelism=single, or a release of old-layouts "
        "whose old says api=2"
    )
    assert of_recipe(api=2, trainable_layers=["1"]) == of_recipe(api=1) == []


def test_recipes_are_refused_by_settings_alone() -> None:
    (said,) = of_recipe(trainable_layers=["2-9"])
    assert "names layers 4-9 | the model has 4 layers, 0 to 3 | name layers up to 3" in said
    (said,) = of_recipe(trainable_layers=["added"], model=False)
    assert "sft starts from no model | they are the layers that a merge added" in said
    (said,) = of_recipe(trainable_layers=["1"], trainable=["embedding"])
    assert "leaves nothing to train in the layers" in said
    assert of_recipe(trainable_layers=["1"], trainable=["embedding"], adapter=True) == []
    assert len(of_recipe(trainable_layers=["1"], trainable=["position"])) == 1, "one fault is told once"


def test_a_model_without_layers_has_none_to_name() -> None:
    settings = TrainStage(steps=1, trainable_layers=["0"])
    spec = DecoderSpec(layers=0, hidden=8, heads=2, kv_heads=2, head_dim=4, mlp=8, context=8)
    (said,) = _layers.of_spec("sft", settings, spec, {Role.EMBEDDING})
    assert (said.cause, said.remedy) == ("no parameter of the model is of a layer", "sft.trainable_layers=[]")


def test_ranges_are_written_as_they_are_named() -> None:
    assert _layers.written({3, 1, 2, 7, 9, 10}) == "layers 1-3, 7, 9-10"
    assert _layers.written({7}) == "layer 7"
