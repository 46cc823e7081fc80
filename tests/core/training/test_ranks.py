"""Ranks as real processes: the first error ends them all, a killed one is named, torchrun's are joined."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import Fault, Stopped, UserError
from lmgraft.training import ranks
from rank_bodies import add, fail, stop
from tiny_recipe import RECIPE, rows_of, statuses, write_recipe

pytestmark = pytest.mark.slow

DDP = RECIPE.replace("@pretrain.parallelism: single", "@pretrain.parallelism: ddp")
TORCHRUN = Path(sys.executable).with_name("torchrun")
JOINED = (str(TORCHRUN), "--nproc-per-node", "2", "-m", "lmgraft")
LONG = ("pretrain.steps=200", "pretrain.checkpoint_every=20")


def test_bodies_run_in_one_group(tmp_path: Path) -> None:
    ranks.launch(partial(add, tmp_path), ranks=2, device="cpu", threads=1)
    assert [(tmp_path / name).read_text() for name in ("0", "1")] == ["3.0 1", "3.0 1"]


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("killed", Fault, "rank 1 of 2 was killed by SIGKILL"),
        ("refused", UserError, "fact"),
        ("unnoticed", UserError, "fact"),
        ("full", OSError, "No space left on device: '/disk/file'"),
        ("raised", Fault, "boom"),
    ],
)
def test_the_first_error_ends_all_within_15_seconds(how: str, kind: type[Exception], said: str) -> None:
    begin = time.monotonic()
    with pytest.raises(kind, match=said):
        ranks.launch(partial(fail, how), ranks=2, device="cpu", threads=1)
    assert time.monotonic() - begin < 15


def test_a_stop_stays_a_stop() -> None:
    with pytest.raises(Stopped, match="saved"):
        ranks.launch(stop, ranks=2, device="cpu", threads=1)


# --- through the command line ----------------------------------------------------------------------------------------


def lmgraft(folder: Path, *args: str, program: tuple[str, ...] = (sys.executable, "-m", "lmgraft")) -> list[str]:
    return [*program, "run", "tiny.yaml", "run.dir=run", f"store.dir={folder / 'store'}", *args]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(folder / "cache")}


def run(folder: Path, *args: str, **more: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = lmgraft(folder, *args, **more)
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=240
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.tensors(folder / "run" / "stages" / "pretrain"))


def children(process: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """(process id, command line), the eldest first."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [(int(row[0]), row[2]) for row in rows if int(row[1]) == process.pid and len(row) == 3]


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The spawned ranks below a run; multiprocessing's resource tracker is its child too."""
    return [pid for pid, args in children(process) if "spawn_main" in args]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    write_recipe(folder, DDP)
    done = run(folder, *LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def saved(store: Path) -> bool:
    """Is there a whole checkpoint? Folders come and go meanwhile, which a walk does not mind."""
    return any(
        "checksums.json" in files and Path(folder).name.removeprefix("step-").isdigit()
        for folder, _, files in os.walk(store)
    )


def running(pid: int) -> bool:
    """An orphan that has ended is a zombie until the system's first process looks after it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begun(folder: Path, *args: str, program: tuple[str, ...] | None = None) -> subprocess.Popen[str]:
    """A run that has written its first checkpoint."""
    write_recipe(folder, DDP)
    command = lmgraft(folder, *LONG, *args, **({"program": program} if program else {}))
    process = subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not saved(folder / "store"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def ended(process: subprocess.Popen[str]) -> str:
    """What it had to say within 15 seconds."""
    begin = time.monotonic()
    said = process.communicate(timeout=60)[0]
    assert time.monotonic() - begin < 15, said
    return said


def went_on(folder: Path, *args: str, **more: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The weights of a run that was given again."""
    again = run(folder, *LONG, *args, **more)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "going on after step" in again.stdout + again.stderr
    assert len([row for row in rows_of(folder / "run") if "loss" in row]) == 200
    return weights(folder)


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_one_rank_killed_of_two_ends_the_run_and_it_goes_on_from_its_checkpoint(whole: Path, tmp_path: Path) -> None:
    process = begun(tmp_path)
    os.kill(ranks_of(process)[-1], signal.SIGKILL)
    said = ended(process)
    assert process.returncode == 1
    assert "rank 1 of 2 was killed by SIGKILL" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert equal(went_on(tmp_path), weights(whole))


def test_stopped_a_run_goes_on_under_another_number_of_ranks(whole: Path, tmp_path: Path) -> None:
    process = begun(tmp_path)
    process.send_signal(signal.SIGTERM)
    said = ended(process)
    assert process.returncode == 75, said
    found, expected = went_on(tmp_path, "pretrain.parallelism.ranks=1"), weights(whole)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-4)


def test_ranks_do_not_outlive_their_parent(tmp_path: Path) -> None:
    process = begun(tmp_path, "pretrain.steps=100000")
    ranks_of_it = ranks_of(process)
    assert len(ranks_of_it) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while any(running(pid) for pid in ranks_of_it):
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- joined ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TORCHRUN.exists(), reason="torch without torchrun")
def test_torchruns_ranks_are_joined_stopped_and_joined_again(whole: Path, tmp_path: Path) -> None:
    process = begun(tmp_path, program=JOINED)
    process.send_signal(signal.SIGTERM)
    said = ended(process)
    assert "stopped on SIGTERM; the work so far is saved" in said
    assert equal(went_on(tmp_path, program=JOINED), weights(whole))


@pytest.mark.skipif(not TORCHRUN.exists(), reason="torch without torchrun")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_torchruns_job(victim: int, tmp_path: Path) -> None:
    process = begun(tmp_path, program=JOINED)
    pids = [pid for pid, args in children(process) if "lmgraft" in args]
    os.kill(pids[victim], signal.SIGKILL)
    said = ended(process)
    assert process.returncode == 1
    if victim == 1:
        assert "rank 1 of 2 ended without a word: it was killed" in said
    assert not any(running(pid) for pid in pids)


@pytest.mark.skipif(not TORCHRUN.exists(), reason="torch without torchrun")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--multirun", "seed=1,2"), "--multirun inside torchrun"),
        (("pretrain.parallelism.ranks=3", "pretrain.batch=4"), "the layout takes 3 ranks"),
    ],
)
def test_what_torchrun_cannot_do_is_said_in_three_lines(args: tuple[str, ...], said: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, DDP)
    done = run(tmp_path, *args, program=JOINED)
    assert done.returncode != 0
    lines = (done.stdout + done.stderr).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(said))
    assert lines[place + 1].startswith("  because: ")
    assert lines[place + 2].startswith("  try: ")


def pair(command: list[str], cache: Path, *folders: Path) -> list[subprocess.CompletedProcess[str]]:
    """Two ranks as SLURM starts them: no agent, rank 0 hosts the store. Each in a folder of its own, or in one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place["PYTHONPATH"] = str(Path(__file__).parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, *command], cwd=folder, env={**environment(cache), **place, "RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, folder in enumerate(folders)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in processes]
    return [
        subprocess.CompletedProcess([], process.returncode, *texts)
        for process, texts in zip(processes, said, strict=True)
    ]


#: Another folder to each process, as a local disk is another one on each node.
OWN = ["-m", "lmgraft", "run", "tiny.yaml", "run.dir=run", "store.dir=/proc/self/cwd/store"]


def test_ranks_without_torchrun_are_joined_and_all_end_well(tmp_path: Path) -> None:
    write_recipe(tmp_path / "here", DDP)
    done = pair(OWN, tmp_path, tmp_path / "here", tmp_path / "here")
    assert [rank.returncode for rank in done] == [0, 0], done
    assert set(statuses(tmp_path / "here/run").values()) == {"ran"}
    assert done[1].stdout == ""


def test_ranks_that_do_not_share_the_store_are_refused_in_three_lines(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        write_recipe(tmp_path / folder, DDP)
    first, second = pair(OWN, tmp_path, tmp_path / "here", tmp_path / "there")
    assert first.returncode == 2
    fact, cause, remedy = first.stderr.splitlines()
    assert fact == "the store /proc/self/cwd/store is not shared by all ranks"
    assert "rank 1 of 2 does not see the file" in cause
    assert "store.dir=" in remedy
    assert second.returncode == 0
    assert not list(tmp_path.glob("*/store/.ranks-*"))


@pytest.mark.parametrize(
    ("how", "said", "code"),
    [
        ("killed", "Fault: rank 1 of 2 ended without a word: it was killed", 9),
        ("raised", "ValueError: boom", 9),
        ("full", "No space left on device", 9),
        ("unnoticed", "fact\n  because: cause\n  try: remedy", 2),  # said by the watch, which ends the process
    ],
)
def test_without_an_agent_too_the_first_error_ends_all(how: str, said: str, code: int, tmp_path: Path) -> None:
    begin = time.monotonic()
    command = ["-c", f"import pathlib, rank_bodies; rank_bodies.job({how!r}, pathlib.Path('store'))"]
    first, second = pair(command, tmp_path, tmp_path, tmp_path)
    assert time.monotonic() - begin < 25  # torch is imported twice in these
    assert said in first.stderr
    assert first.returncode == code
    assert second.returncode == (-9 if how == "killed" else 1)


def test_the_same_stage_under_one_rank_two_and_none(whole: Path) -> None:
    """A layout is no part of the key: what ddp made, single reuses."""
    done = run(whole, "parallelism@pretrain.parallelism=single", *LONG, "run.dir=other")
    assert done.returncode == 0, done.stderr
    assert statuses(whole / "other")["pretrain"] == "reused"
