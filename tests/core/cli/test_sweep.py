"""``lmgraft run --multirun``: checked whole before it starts, shared stages built once, one table at the end."""

from __future__ import annotations

import importlib.util
import signal
from collections import Counter
from pathlib import Path

import pytest
from tiny_recipe import RECIPE, count_rows, digests, run_json, statuses, write_recipe
from warm_cli import WarmCli, wait_for

RATES = "pretrain.optimizer.lr=1e-3,2e-3,4e-3"
SHARED = ("corpus", "tokenizer", "tokens")
JOBLIB = pytest.param(
    ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    id="joblib",
    marks=pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="needs hydra-joblib-launcher"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recipe(tmp_path)
    return tmp_path


def built(run: Path) -> Counter[str]:
    """Stage -> how many jobs built it."""
    ran = [statuses(job) for job in run.iterdir() if job.name.isdigit()]
    return Counter(stage for job in ran for stage, status in job.items() if status == "ran")


@pytest.mark.parametrize("launcher", [pytest.param((), id="basic"), JOBLIB])
def test_three_learning_rates_share_all_that_comes_before(
    cli: WarmCli, folder: Path, launcher: tuple[str, ...]
) -> None:
    args = ["run", "tiny.yaml", "--multirun", RATES, "store.dir=store", "run.dir=sweep", *launcher]
    done = cli(args, folder).check()
    assert sorted(job.name for job in (folder / "sweep").iterdir() if job.is_dir()) == ["0", "1", "2"]
    assert built(folder / "sweep") == {**dict.fromkeys(SHARED, 1), "pretrain": 3, "evaluate": 3}
    rates = [run_json(folder / "sweep" / str(job))["recipe"]["pretrain"]["optimizer"]["lr"] for job in range(3)]
    assert rates == [1e-3, 2e-3, 4e-3]
    assert len({digests(folder / "sweep" / str(job))["pretrain"] for job in range(3)}) == 3
    assert done.out.count("bits_per_byte") == 1  # one table, without the compressors' scores
    assert "tiny: 3 jobs in" in done.out
    for job, rate in enumerate(rates):
        line = next(line for line in done.out.splitlines() if line.startswith(f" {job} "))
        scores = {score["name"]: score["value"] for score in run_json(folder / "sweep" / str(job))["scores"]}
        assert f"pretrain.optimizer.lr={rate}" in line
        assert f"{scores['bits_per_byte']:.4f}" in line
        assert line.rstrip().endswith("pretrain, evaluate")
        assert "store.dir" not in line  # what all jobs have in common is not what was swept


def test_a_job_equals_the_run_of_its_overrides(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    args = [
        "run",
        "tiny.yaml",
        "--multirun",
        "pretrain.steps=12,11",
        "store.dir=store",
        f"run.dir={tmp_path / 'sweep'}",
    ]
    done = cli(args, finished).check()
    assert set(statuses(tmp_path / "sweep" / "0").values()) == {"reused"}
    assert digests(tmp_path / "sweep" / "0") == digests(finished / "run")
    assert "nothing" in next(line for line in done.out.splitlines() if line.startswith(" 0 "))
    data = run_json(tmp_path / "sweep" / "1")
    assert data["overrides"][0] == "pretrain.steps=11"
    again = cli(["rerun", tmp_path / "sweep" / "1", f"run.dir={tmp_path / 'again'}"], finished).check()
    assert "5 of 5 artifacts equal" in again.out


def test_every_job_is_checked_before_the_first_one_starts(cli: WarmCli, folder: Path) -> None:
    args = ["run", "tiny.yaml", "-m", "pretrain.steps=5,0,-1", "store.dir=store", "run.dir=sweep"]
    problem = cli(args, folder).problem()
    assert "job 1 (pretrain.steps=0" in problem
    assert "job 2 (pretrain.steps=-1" in problem
    assert "job 0" not in problem
    assert not (folder / "sweep").exists()
    assert not (folder / "store").exists()


def test_a_dry_run_lists_the_jobs(cli: WarmCli, folder: Path) -> None:
    args = ["run", "tiny.yaml", "-m", RATES, "pretrain.batch=2,4", "--dry-run", "store.dir=store", "run.dir=sweep"]
    done = cli(args, folder).check()
    assert "6 jobs, all checked; nothing was run" in done.out
    assert "pretrain.optimizer.lr=0.004 pretrain.batch=4" in done.out
    assert "store.dir" not in done.out
    assert not (folder / "sweep").exists()


def test_a_recipe_may_hold_the_sweep(cli: WarmCli, folder: Path) -> None:
    (folder / "tiny.yaml").write_text(RECIPE + "hydra: {sweeper: {params: {pretrain.steps: '3,4'}}}\n")
    stages = "stages=[corpus,tokenizer,tokens,pretrain]"
    done = cli(["run", "tiny.yaml", "-m", stages, "store.dir=store", "run.dir=sweep"], folder).check()
    assert built(folder / "sweep") == {**dict.fromkeys(SHARED, 1), "pretrain": 2}
    assert "pretrain.steps=4" in done.out


def test_parts_may_be_swept(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    swap = "schedule@pretrain.schedule=cosine,step_decay"
    args = ["run", "tiny.yaml", "-m", swap, "pretrain.steps=3", "store.dir=store", f"run.dir={tmp_path / 'sweep'}"]
    cli(args, finished).check()
    names = [
        part["name"]
        for job in range(2)
        for part in run_json(tmp_path / "sweep" / str(job))["components"]
        if part["slot"] == "schedule"
    ]
    assert names == ["cosine", "step_decay"]


def test_a_job_that_fails_fails_the_sweep_in_three_lines(cli: WarmCli, folder: Path) -> None:
    args = ["run", "tiny.yaml", "-m", "pretrain.batch=5000,2", "store.dir=store", "run.dir=sweep"]
    done = cli(args, folder)
    assert "the training split of tokens holds" in done.problem()
    assert run_json(folder / "sweep" / "0")["status"] == "failed"
    assert run_json(folder / "sweep" / "1")["status"] == "done"
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    assert lines["0"].rstrip().endswith("corpus, tokenizer, tokens (failed)")
    assert f"{run_json(folder / 'sweep' / '1')['scores'][0]['value']:.4f}" in lines["1"]


def test_a_signal_stops_the_sweep_and_not_one_job_alone(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    args = ["run", "tiny.yaml", "-m", "pretrain.steps=400,401", f"store.dir={tmp_path / 'store'}", f"run.dir={sweep}"]
    command = cli.start([*args, "stages=[corpus,tokenizer,tokens,pretrain]"], finished)
    wait_for(lambda: count_rows(sweep / "0") > 5, command)
    command.kill(signal.SIGTERM)
    done = command.finish()
    assert done.code == 75, done.err
    assert "Traceback" not in done.err
    assert run_json(sweep / "0")["status"] == "stopped"
    assert not (sweep / "1" / "run.json").exists()


def test_the_table_leaves_out_an_earlier_sweeps_jobs(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    args = ["run", "tiny.yaml", "-m", "store.dir=store", f"run.dir={tmp_path / 'sweep'}", "stages=[corpus]"]
    assert "3 jobs in" in cli([*args, "pretrain.steps=1,2,3"], finished).check().out
    done = cli([*args, "pretrain.steps=4,5"], finished).check()
    assert "2 jobs in" in done.out
    assert "pretrain.steps=3" not in done.out


def test_it_is_refused_inside_torchrun(cli: WarmCli, folder: Path) -> None:
    done = cli(["run", "tiny.yaml", "-m", RATES, "store.dir=store"], folder, env={"WORLD_SIZE": "2"})
    assert "--multirun inside torchrun is refused" in done.problem()
