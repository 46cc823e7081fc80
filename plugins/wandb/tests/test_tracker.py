"""Real runs with a real wandb, offline: what it keeps, what it must not hold, and that nothing of it stops a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmgraft_wandb.plugin import Mode, WandbConfig, key, lmgraft_lifecycle
from tiny_recipe import RECIPE, count_rows, rows_of, run_json, write_recipe
from transaction_log import kept
from warm_cli import Done, WarmCli, wait_for

pytest.importorskip("wandb")

WITH = "+lifecycle@lifecycle=[wandb]"
#: Shaped like wandb's: forty hexadecimal digits.
KEY = "0123456789abcdef0123456789abcdef01234567"
SECRET = "hunter2-and-more"


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment without a key, and with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    cleared = {name: "" for name in os.environ if name.startswith("WANDB_")}
    return {**cleared, "HOME": str(home), "NETRC": str(home / "none"), "WANDB_API_KEY": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recipe(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def store(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A store in which every stage of the tiny recipe is finished; built once."""
    made: Path | None = getattr(request.config, "_wandb_store", None)
    if made is None:
        place = tmp_path_factory.mktemp("store")
        write_recipe(place)
        cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], place).check()
        made = place / "store"
        request.config._wandb_store = made
    return made


def run(cli: WarmCli, folder: Path, env: dict[str, str], *overrides: str, **how: Any) -> Done:
    stores = [] if any(line.startswith("store.dir=") for line in overrides) else ["store.dir=store"]
    return cli(["run", "tiny.yaml", *stores, "run.dir=run", WITH, *overrides], folder, env=env, **how)


def state(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "wandb/lmgraft.json").read_text())
    return found


def warnings(done: Done) -> list[str]:
    return [line for line in (done.out + done.err).splitlines() if "wandb" in line and "lifecycle" not in line]


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_offline_without_a_key_the_run_is_kept_in_its_own_directory(
    cli: WarmCli, folder: Path, alone: dict[str, str]
) -> None:
    done = run(cli, folder, alone, "lifecycle.wandb.project=words", "lifecycle.wandb.tags=[one,two]",
               "lifecycle.wandb.name=first", "lifecycle.wandb.group=together").check()  # fmt: skip
    assert warnings(done) == []
    (found,) = kept(folder / "run")
    assert (found.run.project, found.run.display_name, found.run.run_group) == ("words", "first", "together")
    assert list(found.run.tags) == ["one", "two"]
    assert found.run.host == ""
    assert found.exit == 0
    # The curve of every step, over the stage's own steps.
    rows = [row for row in rows_of(folder / "run") if row["stage"] == "pretrain" and "loss" in row]
    assert len(rows) == 12
    for name in ("loss", "lr", "grad_norm", "tokens"):
        assert found.curve("pretrain", name) == {row["step"]: row[name] for row in rows}
    assert set(found.curve("pretrain", "val_loss")) == {0, 12}
    assert found.axes["pretrain/*"] == "pretrain/step"
    # Scores and how it ended.
    for score in run_json(folder / "run")["scores"]:
        assert found.summary[f"evaluate/pretrain/{score['name']}"] == score["value"]
    assert found.summary["pretrain/status"] == "ran"
    assert found.summary["pretrain/seconds"] == run_json(folder / "run")["stages"]["pretrain"]["seconds"]
    assert found.summary["status"] == "done"
    # The recipe, as run.json has it.
    assert found.config["pretrain"] == run_json(folder / "run")["recipe"]["pretrain"]
    assert found.config["seed"] == 0
    # Nothing anywhere else: neither beside the recipe nor at home.
    assert sorted(place.name for place in folder.iterdir()) == ["run", "store", "texts", "tiny.yaml"]
    assert not [place for place in Path(alone["HOME"]).rglob("*") if place.is_file()]


def test_no_secret_is_kept(cli: WarmCli, folder: Path, alone: dict[str, str], store: Path) -> None:
    env = {**alone, "WANDB_API_KEY": KEY, "WANDB_MODE": "offline", "DATA_TOKEN": SECRET}
    run(cli, folder, env, f"store.dir={store}", "+data.password=swordfish", "+data.note='by ${oc.env:DATA_TOKEN}'",
        "+data.address=https://me:sesame@example.org/x").check()  # fmt: skip
    (found,) = kept(folder / "run")
    assert found.config["data"] == {
        "path": "texts", "password": "***", "note": "by ***", "address": "https://***@example.org/x",
    }  # fmt: skip
    files = [place for place in (folder / "run/wandb").rglob("*") if place.is_file()]
    assert len(files) > 3
    for place in files:
        for secret in (KEY, SECRET, "swordfish", "sesame"):
            assert secret.encode() not in place.read_bytes(), place


def test_jobs_of_a_sweep_are_runs_of_one_group(cli: WarmCli, folder: Path, alone: dict[str, str], store: Path) -> None:
    done = cli(["run", "tiny.yaml", f"store.dir={store}", "run.dir=seeds", WITH, "--multirun",
                "evaluate.limit=4,3"], folder, env=alone).check()  # fmt: skip
    assert warnings(done) == []
    jobs = [kept(folder / "seeds" / str(number)) for number in (0, 1)]
    assert [len(job) for job in jobs] == [1, 1]
    assert [job[0].run.run_group for job in jobs] == ["seeds", "seeds"]
    assert [job[0].run.display_name for job in jobs] == ["tiny-seeds-0", "tiny-seeds-1"]
    assert [job[0].config["evaluate"]["limit"] for job in jobs] == [4, 3]
    assert len({job[0].run.run_id for job in jobs}) == 2


LONG = RECIPE.replace("steps: 12", "steps: 400").replace("checkpoint_every: 2", "checkpoint_every: 20")


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder whose recipe trains for some seconds."""
    write_recipe(tmp_path / "long", LONG)
    return tmp_path / "long"


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_id_and_misses_no_step(cli: WarmCli, long: Path, alone: dict[str, str]) -> None:
    args = ["run", "tiny.yaml", "store.dir=store", "run.dir=run", WITH]
    command = cli.start(args, long, env=alone)
    wait_for(lambda: count_rows(long / "run") > 60, command)
    command.kill()
    assert command.finish().code == -signal.SIGKILL
    name = state(long / "run")["id"]
    time.sleep(1)  # the folders' names hold the second at which they began
    cli(args, long, env=alone).check()
    found = kept(long / "run")
    assert len(found) == 2
    assert [file.name for file in (long / "run/wandb").glob("*run-*/*.wandb")] == [f"run-{name}.wandb"] * 2
    # wandb may not have written what it held when it was killed; the second attempt's file has every step.
    losses = {row["step"]: row["loss"] for row in rows_of(long / "run") if "loss" in row}
    assert set(losses) == set(range(1, 401))
    assert found[1].curve("pretrain", "loss") == losses
    assert found[1].run.run_id == name
    # One that is done and is run again is another run.
    time.sleep(1)
    cli(args, long, env=alone).check()
    assert kept(long / "run")[2].run.run_id == state(long / "run")["id"] != name


# --- what never stops a run -----------------------------------------------------------------------------------------


def test_without_wandb_one_line_says_so(
    cli: WarmCli, folder: Path, alone: dict[str, str], store: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken/wandb").mkdir(parents=True)
    (tmp_path / "broken/wandb/__init__.py").write_text("raise ImportError('No module named wandb')\n")
    done = run(cli, folder, alone, f"store.dir={store}", path=[str(tmp_path / "broken")]).check()
    (line,) = warnings(done)
    assert "failed at run_start and is left alone" in line
    assert "pip install 'lmgraft[wandb]'" in line
    assert run_json(folder / "run")["status"] == "done"


def test_a_directory_that_cannot_be_made_is_one_line(
    cli: WarmCli, folder: Path, alone: dict[str, str], store: Path
) -> None:
    (folder / "run").mkdir()
    (folder / "run/wandb").write_text("in the way")
    done = run(cli, folder, alone, f"store.dir={store}").check()
    (line,) = warnings(done)
    assert "FileExistsError" in line


@pytest.mark.slow
def test_a_full_disk_stops_nothing(cli: WarmCli, folder: Path, alone: dict[str, str], store: Path) -> None:
    (folder / "run/wandb").mkdir(parents=True)
    done = run(cli, folder, alone, f"store.dir={store}", tmpfs=[str(folder / "run/wandb"), 16384, False], seconds=60)
    if done.code == 77:
        pytest.skip("no name spaces here")
    assert len(warnings(done.check())) <= 1
    assert run_json(folder / "run")["status"] == "done"


@pytest.mark.slow
def test_a_read_only_directory_stops_nothing(cli: WarmCli, folder: Path, alone: dict[str, str], store: Path) -> None:
    (folder / "run/wandb").mkdir(parents=True)
    done = run(cli, folder, alone, f"store.dir={store}", tmpfs=[str(folder / "run/wandb"), 1 << 20, True])
    if done.code == 77:
        pytest.skip("no name spaces here")
    (line,) = warnings(done.check())
    assert "Read-only file system" in line


def services(of: int) -> list[int]:
    """wandb's processes that a process has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == of and "wandb-core" in (place / "cmdline").read_text():
                found.append(int(place.name))
        except (OSError, IndexError):
            continue
    return found


@pytest.mark.slow
def test_the_death_of_wandbs_process_stops_nothing(cli: WarmCli, long: Path, alone: dict[str, str]) -> None:
    args = ["run", "tiny.yaml", "store.dir=store", "run.dir=run", WITH, "lifecycle.wandb.patience=3"]
    command = cli.start(args, long, env=alone, seconds=90)
    wait_for(lambda: count_rows(long / "run") > 20, command)
    (service,) = services(command.pid)
    os.kill(service, signal.SIGKILL)
    done = command.finish().check()
    assert len(warnings(done)) == 1, done.out + done.err
    assert "is left alone" in warnings(done)[0]
    assert set(range(1, 401)) <= {row.get("step") for row in rows_of(long / "run")}


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_one_line_and_the_run_is_kept(
    cli: WarmCli, folder: Path, alone: dict[str, str], store: Path
) -> None:
    env = {**alone, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    began = time.monotonic()
    done = run(cli, folder, env, f"store.dir={store}", "lifecycle.wandb.patience=2").check()
    assert time.monotonic() - began < 30
    (line,) = warnings(done)
    assert line.startswith("note: wandb stays offline: ")
    assert kept(folder / "run")[-1].summary["status"] == "done"


@pytest.mark.slow
def test_a_failed_run_is_told_as_failed(cli: WarmCli, folder: Path, alone: dict[str, str]) -> None:
    (folder / "texts/bad.txt").write_bytes(b"\xff\xfe bad")
    done = run(cli, folder, alone)
    assert done.code == 2
    (found,) = kept(folder / "run")
    assert (found.exit, found.summary["status"], found.summary["corpus/status"]) == (1, "failed", "failed")


# --- settings -------------------------------------------------------------------------------------------------------


def test_disabled_by_the_environment_it_does_nothing(
    cli: WarmCli, folder: Path, alone: dict[str, str], store: Path
) -> None:
    done = run(cli, folder, {**alone, "WANDB_MODE": "disabled"}, f"store.dir={store}").check()
    assert warnings(done) == []
    assert kept(folder / "run") == []


def test_wandb_is_imported_only_by_a_run_that_uses_it() -> None:
    code = (
        "import sys; import lmgraft_wandb.plugin as p; import lmgraft_wandb.tracker as t; t.Tracker(p.WandbConfig())\n"
        "assert 'wandb' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return lambda text: (tmp_path / "netrc").write_text(text)


def test_a_key_is_looked_for_where_wandb_looks(no_key: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not key()
    no_key(f"machine other.example\n  login user\n  password {KEY}\n")
    assert not key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example")
    assert key()
    monkeypatch.delenv("WANDB_BASE_URL")
    assert not key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert key()


@pytest.mark.usefixtures("no_key")
def test_bad_settings_are_told() -> None:
    assert list(WandbConfig().check()) == []
    for settings in (
        {"project": " "}, {"patience": 0.5}, {"patience": 60.0}, {"tags": ["x" * 65]}, {"mode": Mode.online},
    ):  # fmt: skip
        (problem,) = WandbConfig(**settings).check()
        assert next(iter(settings)) in str(problem)
    (component,) = lmgraft_lifecycle()
    assert len(component.summary) <= 72
