from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lmgraft.errors import UserError
from lmgraft.store import Store, _filecache


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, not remembered."""
    names: list[str] = []
    real = _filecache.file_sha256

    def spy(path: Path) -> str:
        names.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(_filecache, "file_sha256", spy)
    return names


def old_file(folder: Path, name: str, text: str, mtime: int = 1_000_000_000) -> Path:
    path = folder / name
    path.write_text(text)
    os.utime(path, (mtime, mtime))
    return path


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_digests_are_right_and_remembered_in_order(store: Store, tmp_path: Path, read: list[str]) -> None:
    files = [old_file(tmp_path, f"f{i}", f"text {i}") for i in range(1203)]
    expected = [sha(f"text {i}") for i in range(1203)]
    assert store.file_digests(files) == expected
    assert len(read) == 1203
    assert store.file_digests(files[::-1]) == expected[::-1]
    assert Store(store.root).file_digest(files[7]) == expected[7]
    assert len(read) == 1203


def test_the_same_file_twice_is_read_at_most_twice_and_answered_twice(store: Store, tmp_path: Path) -> None:
    path = old_file(tmp_path, "f", "x")
    assert store.file_digests([path, path]) == [sha("x"), sha("x")]
    assert store.file_digests([]) == []


@pytest.mark.parametrize("change", ["size", "mtime", "inode"])
def test_what_looks_different_is_read_again(store: Store, tmp_path: Path, read: list[str], change: str) -> None:
    path = old_file(tmp_path, "f", "one")
    store.file_digest(path)
    if change == "size":
        old_file(tmp_path, "f", "longer")
    elif change == "mtime":
        old_file(tmp_path, "f", "two", mtime=1_000_000_001)
    else:
        os.replace(old_file(tmp_path, "g", "two"), path)
    assert store.file_digest(path) == sha(path.read_text())
    assert read == ["f", "f"]


def test_a_file_that_has_just_changed_is_not_trusted(store: Store, tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    now = path.stat().st_mtime_ns
    assert store.file_digest(path) == sha("one")
    path.write_text("two")  # within the same tick: same size, same inode, and the same time
    os.utime(path, ns=(now, now))
    assert store.file_digest(path) == sha("two")
    assert read == ["f", "f"]


def test_a_file_that_changes_while_it_is_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path, "f", "one")

    def written_meanwhile(read: Path) -> str:
        with open(read, "a") as file:
            file.write("more")
        return "0" * 64

    monkeypatch.setattr(_filecache, "file_sha256", written_meanwhile)
    with pytest.raises(UserError, match="changes while it is read"):
        store.file_digest(path)


@pytest.mark.parametrize("harm", ["garbage", "truncated", "other table", "wrong row", "folder"])
def test_a_damaged_cache_costs_time_and_nothing_else(store: Store, tmp_path: Path, harm: str) -> None:
    files = [old_file(tmp_path, f"f{i}", str(i)) for i in range(200)]
    expected = [sha(str(i)) for i in range(200)]
    assert store.file_digests(files) == expected
    cache = store.root / "digests.sqlite"
    if harm == "garbage":
        cache.write_bytes(os.urandom(5000))
    elif harm == "truncated":
        cache.write_bytes(cache.read_bytes()[:5000])
    elif harm == "folder":
        cache.unlink()
        cache.mkdir()
    else:
        with sqlite3.connect(cache) as database:
            if harm == "other table":
                database.execute("drop table digest")
                database.execute("create table digest (something integer)")
            else:
                database.execute("update digest set sha256 = ?", ("0" * 64,))
        database.close()
    for _ in range(2):
        again = Store(store.root)
        assert again.file_digests(files) == expected
        assert again.file_digests(files) == expected


def test_a_damaged_cache_is_begun_anew(store: Store, tmp_path: Path, read: list[str]) -> None:
    path = old_file(tmp_path, "f", "x")
    store.file_digest(path)
    (store.root / "digests.sqlite").write_bytes(os.urandom(5000))
    again = Store(store.root)
    again.file_digest(path)
    again.file_digest(path)
    again.file_digest(path)
    assert read == ["f", "f"]


def test_every_file_that_cannot_be_read_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        store.file_digests([tmp_path / "no", old_file(tmp_path, "f", "x"), tmp_path / "nor"])
    first, second = caught.value.problems
    assert str(tmp_path / "no") in first.fact
    assert str(tmp_path / "nor") in second.fact
    with pytest.raises(UserError, match="directory"):
        store.file_digest(tmp_path)


WRITER = """
import os, sys
from pathlib import Path
from lmgraft.store import Store
files = sorted(Path(sys.argv[1]).glob("f*"))
store = Store(Path(sys.argv[2]))
print(len({store.file_digest(file) for file in files}))
if sys.argv[3] == "dies":
    import sqlite3
    database = sqlite3.connect(store.root / "digests.sqlite", isolation_level=None)
    database.execute("begin immediate")
    database.execute("delete from digest")
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
"""


def test_processes_and_threads_share_the_cache_and_a_killed_one_leaves_it_whole(
    store: Store, tmp_path: Path, read: list[str]
) -> None:
    files = [old_file(tmp_path, f"f{i}", str(i)) for i in range(60)]
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(store.root)]
    others = [
        subprocess.Popen([*command, end], stdout=subprocess.PIPE, text=True) for end in ("lives", "lives", "dies")
    ]
    answers: list[list[str]] = []
    threads = [threading.Thread(target=lambda: answers.append(store.file_digests(files))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.communicate(timeout=60)[0].strip() for other in others] == ["60", "60", "60"]
    assert answers == [[sha(str(i)) for i in range(60)]] * 3
    read.clear()
    assert Store(store.root).file_digests(files) == answers[0]
    assert read == []


def test_a_forked_child_opens_the_cache_for_itself(store: Store, tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from lmgraft.store import Store
store, file = Store(Path(sys.argv[1])), Path(sys.argv[2])
first = store.file_digest(file)
held = store._files._connection()
if os.fork() == 0:
    os._exit(0 if store.file_digest(file) == first and store._files._connection() is not held else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]), store.file_digest(file) == first)
"""
    path = old_file(tmp_path, "f", "x")
    done = subprocess.run([sys.executable, "-c", code, store.root, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
