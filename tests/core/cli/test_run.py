"""``lmgraft run``: what it says before and after, and how bad input and bad disks end it: three lines, exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lmgraft.store import Store
from tiny_recipe import STAGES, run_json, statuses, write_recipe, write_texts
from warm_cli import NOT_POSSIBLE, Done, WarmCli

Run = Callable[..., Done]


@pytest.fixture
def run(cli: WarmCli, tmp_path: Path) -> Run:
    """``run(overrides)`` of a fresh recipe in ``tmp_path``, into ``store`` and ``run`` there."""
    write_recipe(tmp_path)

    def start(*overrides: str, **how: object) -> Done:
        given = " ".join(overrides)
        places = [f"{key}.dir={key}" for key in ("store", "run") if f"{key}.dir" not in given]
        return cli(["run", "tiny.yaml", *places, *overrides], tmp_path, **how)

    return start


def published(store: Path) -> list[str]:
    return [str(entry.record.meta["stage"]) for entry in Store(store).ls()]


# --- what it says ---------------------------------------------------------------------------------------------------


def test_it_ends_with_the_scores_a_sample_the_page_and_what_to_do_next(cli: WarmCli, finished: Path) -> None:
    done = cli(["run", "tiny.yaml", "store.dir=store", "run.dir=said"], finished).check()
    assert "bits_per_byte" in done.out
    assert "(of the same data)" in done.out
    assert "Sample of pretrain after 'ab'" in done.out
    assert "said: 5 stages, 0 built" in done.out
    assert "said/report.html" in done.out
    assert "lmgraft generate said" in done.out
    assert "lmgraft run tiny.yaml store.dir=store --multirun pretrain.optimizer.lr=" in done.out
    assert [line.partition(":")[0] for line in done.err.splitlines() if " in 0." in line] == list(STAGES)
    quiet = cli(["run", "tiny.yaml", "store.dir=store", "run.dir=said", "--quiet"], finished).check()
    assert quiet.err == ""
    assert "bits_per_byte" in quiet.out


def test_the_lines_printed_as_next_work(cli: WarmCli, finished: Path) -> None:
    done = cli(["run", "tiny.yaml", "store.dir=store", "run.dir=next"], finished).check()
    said = done.out.partition("Next:\n")[2].splitlines()
    assert len(said) == 3
    for line in said:
        if "--multirun" not in line:
            words = subprocess.run(["xargs", "-n1"], input=line, capture_output=True, text=True, check=True).stdout
            cli(words.splitlines()[1:], finished).check()


def test_a_dry_run_says_what_would_run_and_runs_nothing(cli: WarmCli, finished: Path, run: Run, tmp_path: Path) -> None:
    fresh = run("--dry-run").check()
    assert "nothing was run" in fresh.out
    assert fresh.out.count("would run, unless its inputs come out as before") == 4
    assert not (tmp_path / "store").exists() or published(tmp_path / "store") == []
    assert not (tmp_path / "run").exists()
    half = cli(["run", "tiny.yaml", "store.dir=store", "pretrain.steps=14", "--dry-run"], finished).check()
    words = {line.split()[0]: line for line in half.out.splitlines() if line.strip().startswith(STAGES)}
    assert [stage for stage in STAGES if "is reused" in words[stage]] == ["corpus", "tokenizer", "tokens"]
    assert words["pretrain"].rstrip().endswith("would run")
    assert "unless" in words["evaluate"]


def test_hydras_own_looks_at_the_composition(cli: WarmCli, finished: Path) -> None:
    whole = cli(["run", "tiny.yaml", "--cfg", "job"], finished).check().out
    assert "hidden: 32" in whole
    assert "path: ${data.path}" in whole
    part = cli(["run", "tiny.yaml", "--cfg", "job", "--package", "pretrain", "--resolve"], finished).check().out
    assert "hidden: 32" in part
    assert "corpus:" not in part
    assert "filter/length" in cli(["run", "tiny.yaml", "--info", "defaults"], finished).check().out
    assert "lmgraft" in cli(["run", "tiny.yaml", "--info", "searchpath"], finished).check().out
    assert "hydra/launcher=joblib" in cli(["run", "tiny.yaml", "--hydra-help"], finished).check().out


def test_a_part_that_is_swapped_from_the_command_line_runs(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    swaps = ["schedule@pretrain.schedule=step_decay", "filter@corpus.filters=[exact_dedup]", "pretrain.steps=2"]
    done = cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={tmp_path / 'run'}", *swaps], finished).check()
    names = {part["slot"]: part["name"] for part in run_json(tmp_path / "run")["components"]}
    assert names["schedule"] == "step_decay"
    assert "filters.length" not in names
    assert "corpus.filters.length is not selected" in done.err


def test_an_installed_recipe_runs_by_name_and_by_path(cli: WarmCli, tmp_path: Path) -> None:
    assert "quickstart: nothing was run" in cli(["run", "quickstart", "--dry-run"], tmp_path).check().out
    (tmp_path / "mine.yml").write_text("defaults: [recipes/quickstart, _self_]\npretrain: {steps: 9}\n")
    assert "mine: nothing was run" in cli(["run", "./mine.yml", "--dry-run"], tmp_path).check().out


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["pretrain.stepz=3"], "did you mean pretrain.steps=VALUE?"),
        (["pretrain.steps=many"], "pretrain.steps"),
        (["pretrain.steps=0"], "steps is 0"),
        (["pretrain.optimizer=sgd"], "optimizer@pretrain.optimizer=sgd"),
        (["optimizer@pretrain.optimizer=adamv"], "did you mean adamw?"),
        (["data.path=no/such/place"], "no/such/place does not exist"),
        (["pretrain.data=corpus"], "that stage makes a corpus"),
        (["device=tpu"], "device=tpu"),
        (["no equals sign"], "does not parse"),
    ],
)
def test_a_bad_override_is_said_before_anything_is_made(
    run: Run, tmp_path: Path, overrides: list[str], says: str
) -> None:
    assert says in run(*overrides).problem()
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nosuch"], "there is no recipe 'nosuch'"),
        (["quickstrat"], "did you mean quickstart?"),
        (["missing.yaml"], "there is no recipe file missing.yaml"),
        (["texts/"], "it is a folder"),
    ],
)
def test_a_recipe_that_is_not_there(cli: WarmCli, run: Run, tmp_path: Path, args: list[str], says: str) -> None:
    assert says in cli(["run", *args], tmp_path).problem()


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.txt", b"", "bad holds only empty files"),
    "not_utf8": ("a.txt", b"good\n\nb\xff\xfed\n" * 50, "a.txt"),
    "broken_line": ("a.jsonl", b'{"text": "fine"}\n' * 4 + b'{"text": "broken\n' + b'{"text": "fine"}\n', "a.jsonl:5"),
    "no_object": ("a.jsonl", b'{"text": "fine"}\n[1, 2]\n', "a.jsonl:2"),
    "other_column": ("a.jsonl", b'{"body": "fine"}\n', "a.jsonl"),
    "broken_json": ("a.json", b'[{"text": "fine"}, {"text": ]', "a.json"),
    "no_parquet": ("a.parquet", b"PAR1 this is none", "a.parquet"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_source_file_is_named(run: Run, tmp_path: Path, name: str) -> None:
    file, content, says = BAD_FILES[name]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / file).write_bytes(content)
    problem = run("data.path=bad").problem()
    assert says in problem.replace(", line ", ":").replace(" line ", ":"), problem
    assert published(tmp_path / "store") == []
    assert run_json(tmp_path / "run")["status"] == "failed"


def test_a_folder_without_texts_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "nothing" in run("data.path=nothing").problem()


def test_a_mended_file_is_all_it_takes(run: Run, tmp_path: Path) -> None:
    write_texts(tmp_path / "bad")
    whole = (tmp_path / "bad" / "3.txt").read_bytes()
    (tmp_path / "bad" / "3.txt").write_bytes(whole + b"\xff")
    assert "3.txt" in run("data.path=bad", "stages=[corpus]").problem()
    (tmp_path / "bad" / "3.txt").write_bytes(whole)
    run("data.path=bad", "stages=[corpus]").check()
    assert statuses(tmp_path / "run") == {"corpus": "ran"}


def test_too_little_text_is_said_in_three_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "a.txt").write_text("A single short line, and that is all of it.\n")
    run("data.path=small").problem()


# --- disks ----------------------------------------------------------------------------------------------------------


def test_a_store_below_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am in the way")
    assert str(tmp_path / "file") in run("store.dir=file/store").problem()
    assert (tmp_path / "file").read_text() == "I am in the way"


def test_a_folder_where_no_run_can_be_put_is_refused(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("I am in the way")
    args = ["run", finished / "tiny.yaml", f"data.path={finished / 'texts'}", f"store.dir={finished / 'store'}"]
    for more in ([], ["-m", "pretrain.steps=1,2"]):
        problem = cli([*args, *more], tmp_path).problem()
        assert "the run directory runs/tiny/" in problem
        assert "run.dir=PATH" in problem


@pytest.mark.parametrize("place", ["file", "file/run", "locked/run"])
def test_a_run_directory_that_cannot_be_written_is_refused(run: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("I am in the way")
    (tmp_path / "locked").mkdir()
    tmpfs = {"tmpfs": [str(tmp_path / "locked"), 4096, True]} if place.startswith("locked") else {}
    done = run(f"run.dir={place}", **tmpfs)
    if done.code == NOT_POSSIBLE:
        pytest.skip("no file system can be mounted here")
    problem = done.problem()
    assert str(tmp_path / place.partition("/")[0]) in problem
    assert "run.dir=PATH" in problem
    assert not (tmp_path / "store").exists() or published(tmp_path / "store") == []


def test_a_read_only_store_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    done = run("store.dir=disk/store", tmpfs=[str(tmp_path / "disk"), 4096, True])
    if done.code == NOT_POSSIBLE:
        pytest.skip("no file system can be mounted here")
    problem = done.problem()
    assert str(tmp_path / "disk") in problem
    assert "store.dir=PATH" in problem


@pytest.mark.parametrize("kilobytes", [100, 200, 300, 400, 600])
def test_a_full_disk_ends_in_three_lines_wherever_it_is_full(run: Run, tmp_path: Path, kilobytes: int) -> None:
    (tmp_path / "disk").mkdir()
    done = run("store.dir=disk/store", tmpfs=[str(tmp_path / "disk"), kilobytes << 10, False])
    if done.code == NOT_POSSIBLE:
        pytest.skip("no file system can be mounted here")
    problem = done.problem()
    assert "No space left" in problem
    assert "store.dir=PATH" in problem
    assert run_json(tmp_path / "run")["status"] == "failed"


def test_a_full_disk_under_the_run_directory_is_said_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    done = run("run.dir=disk/run", tmpfs=[str(tmp_path / "disk"), 16 << 10, False])
    if done.code == NOT_POSSIBLE:
        pytest.skip("no file system can be mounted here")
    assert "No space left" in done.problem()


def test_a_file_too_large_ends_in_three_lines_and_goes_on_when_it_is_not(run: Run, tmp_path: Path) -> None:
    problem = run(file_bytes=90_000).problem()  # the model takes more, everything before it less
    assert "store.dir=PATH" in problem
    assert published(tmp_path / "store")
    assert "pretrain" not in published(tmp_path / "store")
    assert Store(tmp_path / "store").verify() == []
    run().check()
    assert statuses(tmp_path / "run")["pretrain"] == "ran"
    assert statuses(tmp_path / "run")["tokens"] == "reused"


@pytest.mark.skipif(os.name != "posix", reason="a pipe that closes")
def test_a_reader_that_has_seen_enough_ends_it_quietly(finished: Path) -> None:
    command = f"{sys.executable} -m lmgraft run tiny.yaml --cfg job | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=finished, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    assert json.dumps(done.stdout)
