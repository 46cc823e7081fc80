from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from lmgraft.store import Record, Store

DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", poll=0.01)


def publish(store: Store, key: str, text: str | None = None) -> Record:
    with store.build(key) as job:
        (job.out / "a").write_text(text or key)
        return job.publish("corpus", {}, 0.0)


def half_done(store: Store, key: str) -> None:
    with store.build(key) as job:
        (job.work / "unit").write_text("1234567")


def run_dir(tmp_path: Path, name: str = "run") -> Path:
    run = tmp_path / name
    run.mkdir()
    (run / "run.json").write_text("{}")
    return run


def grow_old(store: Store, days: float = 2.0) -> None:
    """As if nothing had been used for days."""
    then = time.time() - days * DAY
    for parent, _, files in os.walk(store.root):
        for path in (parent, *(os.path.join(parent, name) for name in files)):
            os.utime(path, (then, then))


def test_what_no_run_uses_goes_after_a_day(store: Store) -> None:
    record = publish(store, "aa11")
    assert store.gc().actions == []
    grow_old(store)
    size = sum(p.stat().st_size for p in store.root.rglob("*") if p.is_file() and p.name != "format.json")
    dry = store.gc(dry_run=True)
    assert store.lookup("aa11") == record
    grow_old(store)  # it has just been used
    report = store.gc()
    assert dry == report
    assert (report.actions, report.objects, report.freed) == (["aa11"], [record.digest], size)
    assert store.lookup("aa11") is None
    assert not record.path.exists()
    assert list((store.root / "trash").iterdir()) == []


def test_looking_it_up_keeps_it_for_another_day(store: Store) -> None:
    publish(store, "aa11")
    grow_old(store)
    assert store.lookup("aa11") is not None
    assert store.gc().actions == []
    assert store.lookup("aa11") is not None


def test_a_registered_run_keeps_its_keys_until_its_folder_goes(store: Store, tmp_path: Path) -> None:
    run = run_dir(tmp_path)
    kept, gone = publish(store, "aa11"), publish(store, "bb22")
    store.register(run, ["aa11"])
    store.register(run, ["cc33"])  # adds to what it registered before
    assert store.gc(0).actions == ["bb22"]
    assert store.lookup("aa11") == kept
    assert not gone.path.exists()
    (run / "run.json").unlink()
    assert store.gc(DAY).runs == []  # registered lately: it may just have begun
    report = store.gc(0)
    assert (report.runs, report.actions) == ([run], ["aa11"])
    assert list((store.root / "roots").iterdir()) == []


def test_an_object_stays_while_one_of_its_actions_does(store: Store, tmp_path: Path) -> None:
    first, second = publish(store, "aa11", "same"), publish(store, "bb22", "same")
    assert first.path == second.path
    store.register(run_dir(tmp_path), ["bb22"])
    report = store.gc(0)
    assert (report.actions, report.objects) == (["aa11"], [])
    assert store.lookup("bb22") == second
    assert store.verify() == []


def test_dead_work_goes_and_a_runs_half_done_work_stays(store: Store, tmp_path: Path) -> None:
    half_done(store, "aa11")
    half_done(store, "bb22")
    store.register(run_dir(tmp_path), ["bb22"])  # stopped on Friday, to go on on Monday
    assert store.gc().work == []
    grow_old(store)
    report = store.gc()
    assert report.work == ["aa11"]
    assert report.freed > 7
    assert [p.name for p in (store.root / "work").iterdir()] == ["bb22"]
    with store.build("bb22") as job:
        assert job.resumed


def test_nothing_of_a_live_lease_goes(store: Store) -> None:
    source = publish(store, "aa11")
    with store.build("bb22", describe={"inputs": [source.digest]}) as job:
        (job.work / "unit").write_text("1")
        grow_old(store)
        os.utime(next((store.root / "leases" / "bb22").iterdir()))  # the heartbeat
        report = store.gc(0)
        assert report.work == report.objects == []  # what it reads stays as well
        assert source.path.exists()
        assert (job.work / "unit").exists()
        job.alive()
        (job.out / "a").write_text("1")
        made = job.publish("corpus", {}, 0.0)
    assert store.lookup("bb22") == made


def test_what_is_used_while_it_is_being_removed_comes_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = publish(store, "aa11")
    grow_old(store)
    rename = os.rename

    def used_just_before(source: Path, target: Path) -> None:
        os.utime(source)
        rename(source, target)

    monkeypatch.setattr("lmgraft.store._gc.os.rename", used_just_before)
    report = store.gc()
    monkeypatch.undo()
    assert (report.actions, report.objects, report.freed) == ([], [], 0)
    assert store.lookup("aa11") == record
    assert store.verify() == []


def test_scraps_of_killed_processes_go(store: Store) -> None:
    publish(store, "aa11")
    lease = store.root / "leases" / "dd44"
    lease.mkdir()
    (lease / "3").write_text("{}")
    (lease / ".now-1").touch()
    (store.root / ".format.json.1.tmp").touch()
    (store.root / "roots" / ".x.json.1.tmp").touch()
    grow_old(store)
    store.gc()
    assert not lease.exists()
    assert [p.name for p in store.root.rglob("*.tmp")] == []
    assert sorted(p.name for p in store.root.iterdir() if p.is_file()) == ["format.json"]


def test_a_damaged_action_goes_too(store: Store) -> None:
    record = publish(store, "aa11")
    (record.sidecar.parent / "action.json").write_text("{")
    grow_old(store)
    assert store.gc().actions == ["aa11"]
    assert store.gc().freed == 0
