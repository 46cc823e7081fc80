from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.store import Job, Store

OLD, NEW = "aa11old", "bb22new"


def describe(**parts: str) -> dict[str, Any]:
    return {"stage": "corpus", "parts": parts}


OLD_PARTS = describe(length="hash1", dedup="same", gone="x")
NEW_PARTS = describe(length="hash2", dedup="same", added="y")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", poll=0.01)


def half_done(store: Store, key: str = OLD, parts: dict[str, Any] = OLD_PARTS, *, empty: bool = False) -> None:
    with store.build(key, loose="loose", describe=parts) as job:
        (job.sidecar / "metrics.jsonl").write_text("row\n")
        if not empty:
            (job.work / "unit").write_text(key)


def finish(job: Job) -> dict[str, Any]:
    (job.out / "a").write_text("1")
    return job.publish("corpus", {"rows": 1}, 0.0).meta


def test_changed_code_under_half_done_work_stops_and_says_what_changed(store: Store) -> None:
    half_done(store)
    with pytest.raises(UserError) as caught, store.build(NEW, loose="loose", describe=NEW_PARTS):
        pass
    [problem] = caught.value.problems
    assert "corpus is half done" in problem.fact
    for change in ("length (hash1 -> hash2)", "gone (x -> absent)", "added (absent -> y)"):
        assert change in problem.fact
    assert "dedup" not in problem.fact
    assert "--accept-drift" in problem.remedy
    assert "--restart" in problem.remedy
    assert len(str(caught.value).splitlines()) == 3
    with store.build(OLD, loose="loose", describe=OLD_PARTS) as job:  # it is still there for the old code
        assert job.resumed


def test_accepted_drift_goes_on_and_is_recorded(store: Store) -> None:
    half_done(store)
    with store.build(NEW, loose="loose", describe=NEW_PARTS, accept_drift=True) as job:
        assert job.resumed
        assert (job.work / "unit").read_text() == OLD
        assert (job.sidecar / "metrics.jsonl").read_text() == "row\n"
    # Interrupted once more: the drift is known to the work, not to the command.
    with store.build(NEW, loose="loose", describe=NEW_PARTS) as job:
        assert job.resumed
        meta = finish(job)
    changed = {"length": ["hash1", "hash2"], "gone": ["x", None], "added": [None, "y"]}
    assert meta == {"rows": 1, "drift": [{"from": OLD, "changed": changed}]}
    assert store.lookup(NEW).meta == meta
    assert list((store.root / "work").iterdir()) == []


def test_drift_on_drift_is_recorded_twice(store: Store) -> None:
    half_done(store)
    with store.build(NEW, loose="loose", describe=NEW_PARTS, accept_drift=True):
        pass
    with store.build("cc33", loose="loose", describe=describe(), accept_drift=True) as job:
        assert [entry["from"] for entry in finish(job)["drift"]] == [OLD, NEW]


def test_restart_discards_the_half_done_work(store: Store) -> None:
    half_done(store)
    with store.build(NEW, loose="loose", describe=NEW_PARTS, restart=True) as job:
        assert not job.resumed
        assert list(job.work.iterdir()) == []
        assert finish(job) == {"rows": 1}
    assert list((store.root / "work").iterdir()) == []


def test_restart_discards_the_keys_own_work_too(store: Store) -> None:
    half_done(store)
    with store.build(OLD, loose="loose", describe=OLD_PARTS, restart=True) as job:
        assert not job.resumed
        assert list(job.sidecar.iterdir()) == []


def test_only_work_that_holds_something_counts(store: Store) -> None:
    half_done(store, empty=True)
    with store.build(NEW, loose="loose", describe=NEW_PARTS) as job:
        assert not job.resumed


@pytest.mark.parametrize("loose", ["", "another"])
def test_another_loose_hash_is_another_stage(store: Store, loose: str) -> None:
    half_done(store)
    with store.build(NEW, loose=loose, describe=NEW_PARTS) as job:
        assert not job.resumed


def test_work_that_somebody_is_at_is_left_alone(store: Store) -> None:
    with store.build(OLD, loose="loose", describe=OLD_PARTS) as old:
        (old.work / "unit").write_text("1")
        for ways in ({}, {"accept_drift": True}, {"restart": True}):
            with store.build(NEW, loose="loose", describe=NEW_PARTS, **ways) as job:
                assert not job.resumed
        old.alive()
        assert finish(old) == {"rows": 1}


def test_finished_work_is_no_drift(store: Store) -> None:
    half_done(store)
    with store.build(OLD, loose="loose", describe=OLD_PARTS) as job:
        finish(job)
    with store.build(NEW, loose="loose", describe=NEW_PARTS) as job:
        assert not job.resumed


def test_own_half_done_work_asks_nothing(store: Store) -> None:
    with store.build(NEW, loose="loose", describe=NEW_PARTS) as job:
        (job.work / "unit").write_text("new")
        half_done(store)
    with store.build(NEW, loose="loose", describe=NEW_PARTS) as job:
        assert (job.work / "unit").read_text() == "new"
