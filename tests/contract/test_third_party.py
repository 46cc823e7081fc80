"""What third parties bring beside parts: recipes, variants, kinds of stage and trackers."""

from __future__ import annotations

import json

import pytest


def test_a_package_of_recipes_is_listed_and_runs(messy):
    found = {item["name"]: item for item in json.loads(messy("recipes", "--json").stdout)}
    assert found["one_text"]["distribution"] == "good-recipes"
    assert found["one_text"]["purpose"] == "one text through a filter and a count."
    table = messy("run", "one_text", "store.dir=store", "--dry-run").stdout
    assert [line.split()[:2] for line in table.splitlines() if "would run" in line] == [
        ["corpus", "corpus"],
        ["count", "letters"],
    ]
    assert not (messy / "runs").exists()


def test_variants_compose_for_one_part_and_for_many(messy):
    job = ["run", "one_text", "--cfg", "job"]
    plain = messy(*job).stdout
    assert plain.count("size: 1\n") == 3
    many = messy(*job, "--package", "corpus.filters", "filter@corpus.filters=[keeping/many,length]").stdout
    assert "keeping:\n  part: keeping\n  size: 1000\nlength:\n" in many
    one = messy(*job, "--package", "count.schedule", "schedule@count.schedule=flat/long").stdout
    assert "size: 77" in one
    assert "part: flat" in one
    owner = messy("explain", "one_text", "count.schedule.size", "schedule@count.schedule=flat/long").stdout
    assert "count.schedule.size = 77" in owner
    assert "conf/schedule/flat/long.yaml" in owner
    assert "owned by: schedule flat of good-parts 1.0" in owner


def test_a_kind_of_stage_runs_is_reused_and_tells_trackers(messy):
    run = ["run", "one_text", "lifecycle=[diary,fragile]", "store.dir=store"]
    first = messy(*run, "run.dir=first", DIARY=str(messy / "diary"))
    written = json.loads((messy / "first/stages/count/letters.json").read_text())
    assert written["counts"]["n"] == 2
    assert written["factor"] == written["size"] == 1
    assert "count: ran" in first.stderr
    reports = [line for line in first.stderr.splitlines() if "fragile" in line]
    assert reports == [
        "tracker fragile of good-trackers 1.0 failed at run_start and is left alone: RuntimeError: it broke"
    ]
    assert (messy / "diary").read_text().splitlines() == [
        "run_start one_text 0 2",
        "stage_start corpus",
        "stage_end corpus ran",
        "stage_start count",
        "step count letters stage",
        "stage_end count ran",
        "run_end done",
    ]
    again = messy(*run, "run.dir=second", "schedule@count.schedule=flat/long", DIARY=str(messy / "diary2"))
    assert "corpus: reused" in again.stderr
    assert "count: ran" in again.stderr


def test_a_tracker_with_a_misspelt_hook_stops_the_run_before_any_work(messy):
    run = ["run", "one_text", "lifecycle=[mistaken]", "store.dir=store", "run.dir=out"]
    said = messy(*run, code=2).stderr
    assert "lifecycle.mistaken: the tracker mistaken of good-trackers 1.0 cannot be set up" in said
    assert "there is no hook lmgraft_on_step; did you mean lmgraft_step?" in said
    assert not list((messy / "store").glob("actions/*"))
    assert not list((messy / "out").glob("stages/*"))


@pytest.mark.parametrize("stage", ["count.corpus=count", "count.corpus=nowhere"])
def test_the_inputs_of_a_third_partys_stage_are_checked_as_cores_are(messy, stage):
    said = messy("run", "one_text", stage, "--dry-run", code=2).stderr
    assert f"{stage}\n  because: " in said
    assert "try: count.corpus=corpus" in said or "did you mean" in said
