"""The merge stage with the real part: a whole model folder with its tokenizer, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import build, registry
from lmgraft.seams.merge import Merge, VocabularyMerge
from lmgraft.seams.stage import Stage
from lmgraft.stages.merge import MergeModels, depth, merge
from lmgraft.stages.plugin import MergeStage
from lmgraft.testing._wider import rows_kept, wider_tokenizer
from lmgraft.testing.models import write_llama


def model(folder: Path, layers: int = 6, tokenizer: str = '{"model": {}}') -> Path:
    state = {f"model.layers.{i}.w": torch.full((4, 2), float(i)) for i in range(layers)} | {"norm": torch.ones(3)}
    checkpoint.write(folder, state, {"model_type": "llama", "num_hidden_layers": layers}, {"eos_token_id": 1})
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}")
    return folder


class Context:
    """A stage's context without a run around it."""

    name = "upscale"

    def __init__(self, out: Path, *models: Path, tokenizer: Path | None = None) -> None:
        self.out = out
        self.inputs = {"models": [Artifact("model", path, "", path.name) for path in models]}
        if tokenizer is not None:
            self.inputs["tokenizer"] = [Artifact("tokenizer", tokenizer, "", "extended")]
        self.done = self.whole = 0.0
        self.stopped = False

    def part(self, path: str) -> Any:
        component = registry().get(path, "dus").component
        return build(component, component.config(drop=2))

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.done += amount

    def total(self, total: float) -> None:
        self.whole = total

    def alive(self) -> None:
        if self.stopped:
            raise Stopped("stopped")


def test_a_model_folder_with_its_tokenizer(tmp_path: Path) -> None:
    context: Any = Context(tmp_path / "out", model(tmp_path / "in"))
    stage = MergeModels(MergeStage())
    assert isinstance(stage, Stage)
    assert isinstance(context.part("merge"), Merge)
    assert stage.identity(context) == {}
    stage.run(context)
    after = checkpoint.tensors(tmp_path / "out")
    assert [after[f"model.layers.{i}.w"][0, 0].item() for i in range(8)] == [0, 1, 2, 3, 2, 3, 4, 5]
    assert checkpoint.read_generation_config(tmp_path / "out") == {"eos_token_id": 1}
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert context.done == context.whole == (8 * 8 + 3) * 4
    assert dict(stage.summary(Artifact("model", tmp_path / "out", "", "upscale"))) == {
        "layers (6 before)": "8",
        "parameters (51 before)": "67",
    }


def test_a_stop_is_heard_while_it_copies(tmp_path: Path) -> None:
    context: Any = Context(tmp_path / "out", model(tmp_path / "in"))
    context.stopped = True
    with pytest.raises(Stopped):
        MergeModels(MergeStage()).run(context)


def vocabulary(*tokens: str, **more: Any) -> str:
    return json.dumps({"model": {"vocab": {token: index for index, token in enumerate(tokens)}}, **more})


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (vocabulary("a", "c"), "token 1 is 'b' in the one and 'c' in the other"),
        (vocabulary("a", "b", "c"), "2 and 3 tokens"),
        (json.dumps({"model": {"vocab": [["a", 0.0], ["d", -1.0]]}}), "'b' in the one and 'd'"),
        (vocabulary("a", "b", added_tokens=[{"id": 0, "content": "<s>"}]), "token 0 is 'a' in the one and '<s>'"),
        ("{", "two has no tokenizer"),
        ("[]", "no tokenizer of Hugging Face"),
    ],
)
def test_models_of_other_vocabularies_are_refused_before_anything_is_written(
    tmp_path: Path, other: str, cause: str
) -> None:
    one, two = model(tmp_path / "one", tokenizer=vocabulary("a", "b")), model(tmp_path / "two", tokenizer=other)
    if other == "{":
        (two / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=cause) as caught:
        MergeModels(MergeStage()).run(Context(tmp_path / "out", one, two))  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 3
    assert not (tmp_path / "out").exists()
    if other != "[]":
        with pytest.raises(UserError, match=f"{one} and {two} cannot be merged"):
            merge(Context(tmp_path).part("merge"), [one, two], tmp_path / "out")


def test_how_text_is_cut_and_padded_may_differ(tmp_path: Path) -> None:
    more = {"truncation": {"max_length": 8}, "added_tokens": [{"id": 1, "content": "b", "special": True}]}
    one = model(tmp_path / "one", tokenizer=vocabulary("a", "b"))
    two = model(tmp_path / "two", tokenizer=vocabulary("a", "b", **more))
    merge(average(), [one, two], tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == vocabulary("a", "b")


def average() -> Any:
    component = registry().get("merge", "linear").component
    return build(component, component.config())


def test_the_code_of_a_class_of_its_own_goes_with_it(tmp_path: Path) -> None:
    folder = model(tmp_path / "in")
    (folder / "modeling_own.py").write_text("class Own: ...")
    merge(Context(tmp_path).part("merge"), [folder], tmp_path / "plain")
    assert not (tmp_path / "plain" / "modeling_own.py").exists()
    config = checkpoint.read_config(folder) | {"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    merge(Context(tmp_path).part("merge"), [folder], tmp_path / "out")
    assert (tmp_path / "out" / "modeling_own.py").read_text() == "class Own: ..."


@pytest.mark.parametrize(
    ("name", "models", "said"),
    [
        ("slerp", ["a"], "up.models=[a]: slerp takes 2 models"),
        ("linear", ["a"], "up.models=[a]: linear takes 2 or more models"),
        ("block_expansion", ["a", "b"], "up.models=[a,b]: block_expansion takes 1 model"),
        ("slerp", ["a", "b"], ""),
        ("dus", ["a"], ""),
    ],
)
def test_a_recipe_with_another_number_of_models(name: str, models: list[str], said: str) -> None:
    found = registry().get("merge", name)
    part = SimpleNamespace(seam="merge", config=found.component.config(), installed=found)
    recipe: Any = SimpleNamespace(stage=lambda _: SimpleNamespace(parts=[part]))
    facts = [problem.fact for problem in MergeStage(models=models).check_recipe(recipe, "up")]  # type: ignore[union-attr]
    assert facts == ([said] if said else [])


class Vocabularies(Context):
    def part(self, path: str) -> Any:
        component = registry().get(path, "vocabulary_rows").component
        return build(component, component.config())


def test_another_vocabulary_with_its_tokenizer(tmp_path: Path) -> None:
    write_llama(tmp_path / "in", layers=2)
    wider_tokenizer(tmp_path / "wider")
    (tmp_path / "wider" / "measure.json").write_text("{}")
    context: Any = Vocabularies(tmp_path / "out", tmp_path / "in", tokenizer=tmp_path / "wider")
    assert isinstance(context.part("merge"), VocabularyMerge)
    stage = MergeModels(MergeStage(tokenizer="extended"))
    stage.identity(context)
    stage.run(context)
    assert rows_kept(tmp_path / "in", tmp_path / "wider", tmp_path / "out") == ""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "wider" / name).read_bytes()
    assert not (tmp_path / "out" / "measure.json").exists()
    assert context.done == context.whole > 0
    told = dict(stage.summary(Artifact("model", tmp_path / "out", "", "widened")))
    assert told["vocabulary (258 before)"] == "263"


def test_a_part_without_vocabularies_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    wider_tokenizer(tmp_path / "wider")
    context: Any = Context(tmp_path / "out", model(tmp_path / "in"), tokenizer=tmp_path / "wider")
    with pytest.raises(
        UserError, match=r"cannot make a model for the tokenizer .*wider\n.*DUS has no merge_vocabulary"
    ):
        MergeModels(MergeStage(tokenizer="extended")).run(context)
    assert not (tmp_path / "out").exists()


def test_a_part_that_writes_another_number_of_tokens_is_found_out(tmp_path: Path) -> None:
    class Lying:
        def merge(self, models: Any, out: Path, progress: Any = None) -> None:
            raise AssertionError("a tokenizer is given")

        def merge_vocabulary(self, models: Any, tokenizer: Path, out: Path, progress: Any = None) -> None:
            write_llama(out, layers=1)

    wider_tokenizer(tmp_path / "wider")
    with pytest.raises(UserError, match=r"made a model of 258 tokens\n.*wider has 263"):
        merge(Lying(), [model(tmp_path / "in")], tmp_path / "out", tokenizer=tmp_path / "wider")


def test_a_recipe_that_names_a_tokenizer_for_another_part_is_refused_before_any_work() -> None:
    def problems(name: str) -> list[Any]:
        component = registry().get("merge", name).component
        part = SimpleNamespace(seam="merge", config=component.config(), installed=SimpleNamespace(component=component))
        node = SimpleNamespace(parts=[part])
        recipe: Any = SimpleNamespace(stage=lambda stage: node)
        return list(MergeStage(tokenizer="extended").check_recipe(recipe, "widened"))

    assert problems("vocabulary_rows") == []
    (problem,) = problems("dus")
    assert problem.fact == "widened.tokenizer=extended means nothing to dus"
    assert "widened.tokenizer=null" in problem.remedy


def test_the_depth_that_a_config_tells(tmp_path: Path) -> None:
    assert depth(model(tmp_path / "in", 3)) == 3
    (tmp_path / "in" / "config.json").write_text("{}")
    assert depth(tmp_path / "in") is None
