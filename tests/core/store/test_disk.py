"""A disk that is full, read-only or no folder: three lines, and the work goes on once there is room."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lmgraft.errors import UserError
from lmgraft.store import Store
from lmgraft.store._errors import explained

KEY = "aa11bb22cc33"

BUILD = """
import sys
from pathlib import Path
from lmgraft.errors import UserError
from lmgraft.store import Store
exec(sys.argv[3])
try:
    with Store(Path(sys.argv[1])).build("aa11bb22cc33") as job:
        (job.work / "unit").write_text("1")
        for i in range(20):
            (job.out / f"{i}").write_bytes(b"x" * int(sys.argv[2]))
        job.publish("corpus", {}, 0.0)
except UserError as error:
    print(error)
else:
    print("built")
"""


def three_lines(text: str, path: Path) -> None:
    assert len(text.splitlines()) == 3, text
    assert str(path) in text
    assert "store.dir=PATH" in text


def build(root: Path, size: int, before: str = "", shell: str = "") -> str:
    command = [sys.executable, "-c", BUILD, str(root), str(size), before]
    if shell:
        command = ["unshare", "--mount", "sh", "-c", shell + ' && exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("deeper", ["", "store", "store/deep"])
def test_a_file_where_the_folder_should_be(tmp_path: Path, deeper: str) -> None:
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "file" / deeper)
    assert store.lookup(KEY) is None
    for use in (lambda: store.build(KEY).__enter__(), lambda: store.register(tmp_path, [KEY])):
        with pytest.raises(UserError) as caught:
            use()
        three_lines(str(caught.value), tmp_path / "file")


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR]
)
def test_the_disks_refusals_inside_the_store_are_explained(tmp_path: Path, code: int) -> None:
    path = tmp_path / "store" / "objects" / "x"
    with pytest.raises(UserError) as caught, explained(tmp_path / "store"):
        raise OSError(code, os.strerror(code), str(path))
    three_lines(str(caught.value), path)


def test_errors_elsewhere_pass_unchanged(tmp_path: Path) -> None:
    for error in (
        PermissionError(errno.EACCES, "no", str(tmp_path / "storeroom" / "x")),
        OSError(errno.ENOSPC, "full", str(tmp_path / "other" / "x")),
        FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "store" / "x")),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    ):
        with pytest.raises(type(error)) as caught, explained(tmp_path / "store"):
            raise error
        assert caught.value is error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_stage_that_runs_out_of_room_is_explained(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UserError) as caught, store.build(KEY), open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    three_lines(str(caught.value), store.root)
    assert os.listdir(store.root / "leases") == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits file sizes")
@pytest.mark.parametrize(("limit", "size"), [(5, 10), (100, 10), (1000, 10), (4096, 100_000)])
def test_a_limit_on_file_sizes_is_explained_and_the_work_goes_on_without_it(
    tmp_path: Path, limit: int, size: int
) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    root = tmp_path / "store"
    three_lines(build(root, size, limited), root)
    assert Store(root).lookup(KEY) is None
    assert build(root, size) == "built"
    assert Store(root).verify() == []


@pytest.mark.skipif(not can_mount(), reason="may not mount filesystems")
@pytest.mark.parametrize("options", ["ro", "size=64k", "nr_inodes=12"])
def test_a_read_only_and_a_full_disk_are_explained(tmp_path: Path, options: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = f"mount -t tmpfs -o {options} none {disk}"
    three_lines(build(disk / "store", 200_000, shell=shell), disk / "store")


@pytest.mark.skipif(not can_mount(), reason="may not mount filesystems")
def test_a_read_only_store_still_answers(tmp_path: Path) -> None:
    assert build(tmp_path / "store", 10) == "built"
    code = "print(Store(Path(sys.argv[1])).lookup('aa11bb22cc33').kind); sys.exit()"
    shell = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    assert build(tmp_path / "store", 10, code, shell=shell) == "corpus"


@pytest.mark.skipif(os.geteuid() == 0, reason="no permission stops root")
def test_a_folder_that_may_not_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    three_lines(build(tmp_path / "store", 10), tmp_path / "store")
