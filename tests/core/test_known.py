"""What is known of a model, from a run.json of any age."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft import compose, known, recipe
from lmgraft.seams.exporter import Known

RUN: dict[str, Any] = {
    "components": [
        {"stage": "web", "slot": "", "seam": "stage", "name": "corpus"},
        {"stage": "web", "slot": "sources.hub", "seam": "data_source", "name": "hub"},
        {"stage": "own", "slot": "", "seam": "stage", "name": "corpus"},
        {"stage": "own", "slot": "sources.python_docs", "seam": "data_source", "name": "python_docs"},
        {"stage": "own", "slot": "sources.strange", "seam": "data_source", "name": "not_installed"},
        {"stage": "pretrain", "slot": "", "seam": "stage", "name": "train"},
        {"stage": "pretrain", "slot": "parallelism", "seam": "parallelism", "name": "single"},
        {"stage": "later", "slot": "", "seam": "stage", "name": "a_strangers_kind"},
        {"stage": "", "slot": "lifecycle.wandb", "seam": "lifecycle", "name": "wandb"},
    ],
    "recipe": {
        "web": {"sources": {"hub": {"name": "org/texts", "split": "train", "revision": "main"}}, "workers": 7},
        "own": {"sources": {"python_docs": {"installed": ["numpy"]}}},
        "pretrain": {
            "data": "web",
            "more_data": ["own"],
            "data_weights": {"web": 1.0, "own": 2.0},
            "steps": 5,
            "log_every": 3,
            "trainable_layers": ["1-2"],
        },
    },
}


def test_lineage_is_in_the_order_of_work_and_leaves_others_out():
    found = known.from_run(RUN)
    assert [stage.name for stage in found] == ["web", "own", "pretrain", "later"]
    assert [stage.name for stage in known.lineage(found, "pretrain")] == ["web", "own", "pretrain"]
    assert [stage.name for stage in known.lineage(found, "own")] == ["own"]
    assert known.lineage(found, "nowhere") == []


def test_settings_are_those_that_decide():
    told = {stage.name: stage for stage in known.stages(known.from_run(RUN))}
    assert told["pretrain"].settings == {"steps": 5, "trainable_layers": ["1-2"]}  # of data_weights stages are the keys
    assert told["pretrain"].parts == {}  # a layout changes how work is done
    assert told["web"].parts["sources.hub"] == {"name": "hub", "split": "train"}
    assert "workers" not in told["web"].settings
    assert told["later"] == known.stages([known.Described("later", "a_strangers_kind")])[0]


def test_sources_tell_licence_and_data_set_where_they_are_known(monkeypatch, tmp_path):
    found = known.from_run(RUN)
    named = {source.name: source for source in known.sources(found, {"strange": "MIT"})}
    assert (named["hub"].dataset, named["hub"].license) == ("org/texts", "")
    assert named["python_docs"].license == ""  # docstrings of other packages are not Python's
    assert (named["strange"].part, named["strange"].license) == ("not_installed", "MIT")
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "texts").touch()
    monkeypatch.chdir(tmp_path)  # a file is no data set that could be meant
    assert known.sources(known.from_run(RUN), {})[0].dataset == "org/texts"
    (tmp_path / "org" / "texts").unlink()
    (tmp_path / "org" / "texts").mkdir()  # now it is a folder of this machine's, which no card names
    assert not known.sources(known.from_run(RUN), {})[0].dataset


def test_a_folder_that_is_called_as_a_data_set_is_read_and_noted(monkeypatch, tmp_path):
    recipe_file = tmp_path / "r.yaml"
    recipe_file.write_text(
        "defaults: [base, stage@corpus: corpus, data_source@corpus.sources: [hub, files], _self_]\n"
        "stages: [corpus]\n"
        f"corpus: {{sources: {{hub: {{name: org/texts}}, files: {{path: {tmp_path}}}}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    found = compose.resolve(str(recipe_file))

    def notes():
        return recipe.read(compose.compose(found, []), found.name).notes

    assert notes() == ()
    (tmp_path / "org" / "texts").mkdir(parents=True)
    assert notes() == (
        "corpus.sources.hub.name=org/texts is a folder here, which is read in place of a data set of that name",
    )


def test_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "swordfish-and-more")
    run = {**RUN, "recipe": {**RUN["recipe"], "pretrain": {"data": "web", "steps": "swordfish-and-more"}}}
    told = {stage.name: stage for stage in known.stages(known.from_run(run))}
    assert told["pretrain"].settings == {"steps": "***"}


@pytest.mark.parametrize(
    "data", [{}, {"components": None, "recipe": None}, {"components": [3, {"stage": "a"}], "recipe": 4}]
)
def test_a_manifest_of_another_shape_tells_nothing(data):
    assert all(not stage.parts for stage in known.from_run(data))


def test_only_what_is_asked_for_is_handed_on_and_keyed():
    whole = Known(name="a", license="mit", recipe="r", versions={"torch": "2"})
    assert known.asked(whole, ["name"]) == Known(name="a")
    assert known.as_plain(whole, ["license", "versions"]) == {"license": "mit", "versions": {"torch": "2"}}
    assert known.asked(whole, []) == Known()
