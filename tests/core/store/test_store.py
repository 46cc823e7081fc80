from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lmgraft.errors import Fault, UserError
from lmgraft.store import Record, Store, folder_manifest

KEY = "aa11bb22cc33"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", poll=0.01)


def publish(store: Store, key: str = KEY, text: str = "hello") -> Record:
    with store.build(key) as job:
        assert job.record is None
        (job.out / "sub").mkdir()
        (job.out / "sub" / "a.txt").write_text(text)
        (job.out / "b.bin").write_bytes(b"\0" * 10)
        (job.sidecar / "metrics.jsonl").write_text("{}\n")
        return job.publish("corpus", {"rows": 3}, 1.5)


def test_what_was_published_is_found_with_its_digest_and_sidecar(store: Store) -> None:
    assert store.lookup(KEY) is None
    made = publish(store)
    found = Store(store.root).lookup(KEY)
    assert found == made
    assert (found.kind, found.meta, found.seconds) == ("corpus", {"rows": 3}, 1.5)
    assert found.digest == folder_manifest(found.path).digest
    assert sorted(p.name for p in found.path.iterdir()) == ["b.bin", "sub"]  # the artifact's files and nothing else
    assert (found.sidecar / "metrics.jsonl").read_text() == "{}\n"
    assert store.verify() == []


def test_looking_up_makes_nothing_on_disk(store: Store) -> None:
    assert store.lookup(KEY) is None
    assert store.ls() == []
    assert store.verify() == []
    assert store.gc(0).freed == 0
    assert not store.root.exists()


def test_files_are_read_only_and_no_work_or_lease_remains(store: Store) -> None:
    record = publish(store)
    assert all(not stat.S_IMODE(p.stat().st_mode) & 0o222 for p in record.path.rglob("*") if p.is_file())
    for name in ("work", "leases", "trash"):
        assert list((store.root / name).iterdir()) == []


def test_a_finished_key_is_not_built_again(store: Store) -> None:
    made = publish(store)
    with store.build(KEY) as job:
        assert job.record == made
        job.alive()
        with pytest.raises(Fault, match="finished"):
            _ = job.out


def test_two_keys_with_the_same_bytes_share_one_object(store: Store) -> None:
    first, second = publish(store), publish(store, "dd44ee55")
    assert first.path == second.path
    assert first.sidecar != second.sidecar
    assert len(list(store.root.glob("objects/*/*"))) == 1


def test_the_digest_is_of_names_sizes_and_contents_only(tmp_path: Path) -> None:
    def digest(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return folder_manifest(tmp_path / name).digest

    one = digest("one", {"x/a": "1", "b": "2"})
    os.utime(tmp_path / "one" / "b", (1, 1))
    os.chmod(tmp_path / "one" / "b", 0o700)
    assert folder_manifest(tmp_path / "one").digest == one == digest("two", {"b": "2", "x/a": "1"})
    others = [{"x/a": "1", "c": "2"}, {"x/a": "2", "b": "1"}, {"x/a": "1", "b": "22"}, {"xa": "1", "b": "2"}]
    assert len({one, *(digest(f"other{i}", files) for i, files in enumerate(others))}) == 5


def test_out_is_empty_at_every_start_and_work_and_sidecar_survive(store: Store) -> None:
    def fail() -> None:
        with store.build(KEY) as job:
            assert not job.resumed
            (job.work / "unit").write_text("1")
            (job.out / "half").write_text("written")
            (job.sidecar / "metrics.jsonl").write_text("row\n")
            raise RuntimeError("a stage's own error")

    with pytest.raises(RuntimeError, match="own error"):
        fail()
    assert store.lookup(KEY) is None
    with store.build(KEY) as job:
        assert job.resumed
        assert (job.work / "unit").read_text() == "1"
        assert (job.sidecar / "metrics.jsonl").read_text() == "row\n"
        assert list(job.out.iterdir()) == []


def test_the_first_to_publish_wins(store: Store) -> None:
    first = publish(store, text="first")
    action, aside = first.sidecar.parent, store.root / "aside"
    action.rename(aside)
    with store.build(KEY) as job:
        (job.out / "a").write_text("second")
        aside.rename(action)  # as if another had published it just now
        assert job.publish("corpus", {}, 0.0) == first
    assert store.lookup(KEY) == first
    assert store.verify() == []


def test_a_publishing_that_was_cut_short_is_finished_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraft.store._publish._place_action", None)
    with pytest.raises(TypeError):
        publish(store)
    monkeypatch.undo()
    assert store.lookup(KEY) is None
    with store.build(KEY) as job:
        assert job.record == store.lookup(KEY)
        assert job.record is not None
        assert job.record.meta == {"rows": 3}
        assert [p.name for p in job.record.sidecar.iterdir()] == ["metrics.jsonl"]


def test_where_its_object_has_gone_meanwhile_it_is_built_again_beside_its_sidecar(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmgraft.store._publish._place_action", None)
    with pytest.raises(TypeError):
        publish(store)
    monkeypatch.undo()
    [thing] = store.root.glob("objects/*/*")
    thing.rename(store.root.parent / "gone")
    with store.build(KEY) as job:
        assert job.record is None
        assert (job.sidecar / "metrics.jsonl").read_text() == "{}\n"
        assert list(job.out.iterdir()) == []


def test_what_a_paused_holder_writes_when_it_wakes_is_never_taken_for_work(store: Store) -> None:
    scrap = store.root / "work" / KEY / "3-abc" / "work"
    publish(store, "dd44ee55")
    scrap.mkdir(parents=True)  # it made its folders anew, but it has no intent
    (scrap / "unit").write_text("late")
    with store.build(KEY) as job:
        assert not job.resumed
        assert list(job.work.iterdir()) == []
        (job.out / "a").write_text("1")
        job.publish("corpus", {}, 0.0)
    assert list((store.root / "work").iterdir()) == []


def test_symlinks_and_sockets_are_refused(store: Store, tmp_path: Path) -> None:
    with store.build(KEY) as job:
        (job.out / "link").symlink_to(tmp_path)
        with pytest.raises(Fault, match="link is a symlink"):
            job.publish("corpus", {}, 0.0)
    with store.build(KEY) as job:
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            os.chdir(job.out)  # a socket's address is short
            server.bind("s")
            os.chdir(before)
        with pytest.raises(Fault, match="socket"):
            job.publish("corpus", {}, 0.0)
    assert store.lookup(KEY) is None


def test_a_hard_link_to_an_outside_file_is_cut(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "mine.txt"
    outside.write_text("before")
    with store.build(KEY) as job:
        os.link(outside, job.out / "theirs.txt")
        record = job.publish("corpus", {}, 0.0)
    outside.write_text("after!")
    assert (record.path / "theirs.txt").read_text() == "before"
    assert store.verify() == []


def test_empty_folders_are_no_part_of_an_artifact(store: Store) -> None:
    with store.build(KEY) as job:
        (job.out / "empty" / "deeper").mkdir(parents=True)
        (job.out / "a").write_text("1")
        record = job.publish("corpus", {}, 0.0)
    assert [p.name for p in record.path.iterdir()] == ["a"]


@pytest.mark.parametrize("harm", ["shorter", "file", "manifest", "object", "record", "record_text"])
def test_a_damaged_action_is_not_found_and_is_replaced_by_the_next_building(store: Store, harm: str) -> None:
    record = publish(store)
    if harm == "shorter":
        os.chmod(record.path / "b.bin", 0o644)
        (record.path / "b.bin").write_bytes(b"\0" * 9)
    elif harm == "file":
        (record.path / "b.bin").unlink()
    elif harm == "manifest":
        (record.path.parent / "manifest.json").write_text("{}")
    elif harm == "object":
        record.path.parent.rename(store.root.parent / "elsewhere")
    elif harm == "record":
        (record.sidecar.parent / "action.json").unlink()
    else:
        (record.sidecar.parent / "action.json").write_text('{"digest"')
    assert store.lookup(KEY) is None
    assert store.verify() != []
    again = publish(store)
    assert again.digest == record.digest
    assert store.lookup(KEY) == again
    assert store.verify() == []


def test_verify_finds_what_sizes_do_not_show_and_repairs_it(store: Store) -> None:
    record, other = publish(store), publish(store, "dd44ee55", "fine")
    path = record.path / "b.bin"
    os.chmod(path, 0o644)
    path.write_bytes(b"\1" * 10)
    seen: list[tuple[int, int]] = []
    [problem] = store.verify(lambda done, total: seen.append((done, total)))
    assert "b.bin has other content" in problem.cause
    assert record.digest in problem.fact
    assert "--repair" in problem.remedy
    assert len(seen) == 2
    assert seen[-1][0] == seen[-1][1] > 0
    assert store.lookup(KEY) == record  # nothing is removed unasked
    assert len(store.verify(repair=True)) == 1
    assert store.lookup(KEY) is None
    assert store.lookup("dd44ee55") == other
    assert store.verify() == []


def test_verify_finds_a_file_that_was_added(store: Store) -> None:
    record = publish(store)
    (record.path / "added").write_text("x")
    assert ["added was not published" in problem.cause for problem in store.verify()] == [True]


def test_ls_tells_size_age_and_users(store: Store, tmp_path: Path) -> None:
    record, later = publish(store), publish(store, "dd44ee55", "other")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    store.register(run, [KEY])
    store.register(tmp_path / "gone", [KEY])
    first, second = store.ls()
    assert (first.record, second.record) == (later, record)
    assert second.size == len("hello") + 10 + len("{}\n")
    assert second.users == (run,)
    assert first.users == ()
    assert 0 <= first.age <= second.age < 60


def test_a_newer_store_is_refused_in_three_lines(store: Store) -> None:
    publish(store)
    (store.root / "format.json").write_text(json.dumps({"format": 2}))
    for use in (lambda: store.lookup(KEY), lambda: publish(store, "dd44ee55"), lambda: store.gc(0), store.ls):
        with pytest.raises(UserError, match="format 2") as caught:
            use()
        assert str(store.root) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 3


def test_a_folder_of_other_things_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "work" / "thesis").mkdir(parents=True)
    store = Store(tmp_path)
    with pytest.raises(UserError, match="is not a store") as caught:
        publish(store)
    assert "store.dir=PATH" in str(caught.value)
    assert store.gc(0).work == []
    assert (tmp_path / "work" / "thesis").exists()


def test_a_key_that_is_no_name_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="not a key"), store.build("../../etc"):
        pass


def test_importing_the_store_imports_nothing_heavy() -> None:
    code = "import sys, lmgraft.store; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "numpy", "pyarrow", "datasets", "sqlite3", "concurrent.futures", "multiprocessing"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
