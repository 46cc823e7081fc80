"""Ranks as real processes: the first error ends them all, a killed one is named, torchrun's are joined."""

from __future__ import annotations

import json
import os
import shutil
import signal
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
from tiny_recipe import RECIPE, rows_of, run_json, statuses, write_recipe

pytestmark = pytest.mark.slow

DDP = RECIPE.replace("@pretrain.parallelism: single", "@pretrain.parallelism: ddp")
TORCHRUN = Path(sys.executable).with_name("torchrun")


def test_bodies_run_in_one_group(tmp_path: Path) -> None:
    ranks.launch(partial(add, tmp_path), ranks=2, device="cpu", threads=1)
    assert [(tmp_path / name).read_text() for name in ("0", "1")] == ["3.0 1", "3.0 1"]


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [("killed", Fault, "rank 1 of 2 was killed by SIGKILL"), ("refused", UserError, "fact"), ("raised", Fault, "boom")],
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


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The spawned ranks below a run; multiprocessing's resource tracker is its child too, and comes first."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    mine = [(int(row[0]), row[2]) for row in rows if int(row[1]) == process.pid and len(row) == 3]
    assert mine, listed
    return [pid for pid, args in mine if "spawn_main" in args]


def test_one_rank_killed_of_two_ends_the_run_and_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    long = ("pretrain.steps=400", "pretrain.checkpoint_every=20")
    for folder in (whole, broken):
        write_recipe(folder, DDP)
    assert run(whole, *long).returncode == 0
    process = subprocess.Popen(
        lmgraft(broken, *long), cwd=broken, env=environment(broken), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(broken.glob("store/**/checkpoints/step-*/checksums.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = ranks_of(process)[-1]
    os.kill(victim, signal.SIGKILL)
    begin = time.monotonic()
    said = process.communicate(timeout=60)[0]
    assert time.monotonic() - begin < 15
    assert process.returncode == 1
    assert "was killed by SIGKILL" in said
    assert "Traceback" not in said
    again = run(broken, *long)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "going on after step" in again.stdout + again.stderr
    left, right = weights(whole), weights(broken)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert len([row for row in rows_of(broken / "run") if "loss" in row]) == 400


@pytest.mark.skipif(not TORCHRUN.exists(), reason="torch without torchrun")
def test_torchruns_ranks_are_joined(tmp_path: Path) -> None:
    alone, joined = tmp_path / "alone", tmp_path / "joined"
    for folder in (alone, joined):
        write_recipe(folder, DDP)
    assert run(alone).returncode == 0
    done = run(joined, program=(str(TORCHRUN), "--nproc-per-node", "2", "-m", "lmgraft"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(statuses(joined / "run").values()) == {"ran"}
    left, right = weights(alone), weights(joined)
    assert all(torch.equal(left[name], right[name]) for name in left)


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
    done = run(tmp_path, *args, program=(str(TORCHRUN), "--nproc-per-node", "2", "-m", "lmgraft"))
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_the_same_stage_under_one_rank_two_and_none(tmp_path: Path) -> None:
    """A layout is no part of the key: what ddp made, single reuses."""
    write_recipe(tmp_path, DDP)
    assert run(tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "run")
    write_recipe(tmp_path, RECIPE)
    assert run(tmp_path).returncode == 0
    assert statuses(tmp_path / "run")["pretrain"] == "reused"
    assert json.dumps(run_json(tmp_path / "run"))
