"""What a run promises: the files of its directory, what is reused and what runs again, signals and failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmgraft.store import Store
from third_party import Distribution, component, module
from tiny_recipe import (
    RECIPE,
    STAGES,
    count_rows,
    digests,
    metrics,
    rows_of,
    run_json,
    statuses,
    write_recipe,
    write_texts,
)
from warm_cli import Done, WarmCli, wait_for

REUSED = dict.fromkeys(STAGES, "reused")
STEP = {"stage", "step", "loss", "tokens", "lr", "grad_norm", "tokens_per_second", "data_wait"}
VALIDATION = {"stage", "step", "val_loss", "val_bits_per_byte"}


def only(*ran: str) -> dict[str, str]:
    return {stage: "ran" if stage in ran else "reused" for stage in STAGES}


@pytest.fixture
def again(cli: WarmCli, finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs the finished recipe once more, into its store and a new run directory, which it returns."""

    def run(*overrides: str, recipe: str = "tiny.yaml", **how: Any) -> Path:
        folder = tmp_path / f"again{len(list(tmp_path.iterdir()))}"
        cli(["run", recipe, "store.dir=store", f"run.dir={folder}", *overrides], finished, **how).check()
        return folder

    return run


# --- the run directory ----------------------------------------------------------------------------------------------


def test_the_manifest_says_what_ran_from_which_parts_where_and_with_which_scores(finished: Path) -> None:
    data = run_json(finished / "run")
    assert data["status"] == "done"
    assert (data["seed"], data["device"], data["recipe_name"]) == (0, "cpu", "tiny")
    assert list(data["stages"]) == list(STAGES)
    for facts in data["stages"].values():
        assert facts["status"] == "ran"
        assert len(facts["key"]) == len(facts["digest"]) == 64
        assert facts["seconds"] > 0
    assert data["stages"]["pretrain"]["precision"] == "float32"
    assert data["stages"]["pretrain"]["seed"] == 0
    parts = {(part["stage"], part["slot"]): part for part in data["components"]}
    assert (parts["pretrain", ""]["seam"], parts["pretrain", ""]["name"]) == ("stage", "train")
    assert parts["pretrain", "architecture"]["seam"] == "architecture"
    assert parts["corpus", "filters.exact_dedup"]["name"] == "exact_dedup"
    for part in parts.values():
        assert part["distribution"] == "lmgraft"
        assert part["version"]
        assert part["seam"] == "stage" or len(part["source"]["package_sha256"]) == 64
    assert data["recipe"]["data"]["path"] == data["recipe"]["corpus"]["sources"]["files"]["path"] == "texts"
    assert data["recipe"]["pretrain"]["architecture"]["hidden"] == 32
    assert data["environment"]["threads"] == "1"
    assert {"torch", "numpy", "tokenizers"} <= set(data["environment"]["versions"])


def test_the_scores_are_records_with_a_unit(finished: Path) -> None:
    scores = {score["name"]: score for score in run_json(finished / "run")["scores"]}
    assert scores["bits_per_byte"]["stage"] == "pretrain"
    assert scores["bits_per_byte"]["evaluator"] == "perplexity"
    assert scores["bits_per_byte"]["unit"] == "bits/byte"
    assert 0 < scores["bits_per_byte"]["value"] < 16


def test_nothing_of_the_user_is_in_the_manifest(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    secret = {"HF_TOKEN": "hf_d9f3secret", "USER": "the-user-name"}
    cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={tmp_path / 'run'}"], finished, env=secret).check()
    written = "".join(file.read_text() for file in (tmp_path / "run").glob("*.*"))
    assert not [value for value in [*secret.values(), os.uname().nodename] if value in written]


def test_metrics_have_a_row_for_every_step_and_for_validation(finished: Path) -> None:
    rows = rows_of(finished / "run")
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert all(set(row) >= STEP for row in steps)
    assert [row["tokens"] for row in steps] == [step * 2 * 32 for step in range(1, 13)]
    held_out = [row for row in rows if "val_loss" in row]
    assert [row["step"] for row in held_out] == [0, 12]
    assert all(set(row) >= VALIDATION for row in held_out)
    assert held_out[1]["val_loss"] < held_out[0]["val_loss"]


def test_each_stage_has_a_link_to_its_artifact(finished: Path) -> None:
    data = run_json(finished / "run")
    for name in STAGES:
        link = finished / "run" / "stages" / name
        assert link.is_symlink()
        assert data["stages"][name]["digest"] in str(link.resolve())
    assert "<svg" in (finished / "run" / "report.html").read_text()


def test_transformers_loads_the_model_with_the_same_logits(finished: Path) -> None:
    import lmgraft
    import torch
    from transformers import AutoModelForCausalLM

    folder = finished / "run" / "stages" / "pretrain"
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = lmgraft.load(folder, device="cpu", precision="float32")
    vocabulary = theirs.config.vocab_size
    prefix = [int(token) for token in torch.randint(0, vocabulary, (20,), generator=torch.Generator().manual_seed(0))]
    with torch.inference_mode():
        logits = theirs(torch.tensor([prefix])).logits[0]
    expected = torch.log_softmax(logits, -1)
    # The whole last row, an id a request, and every position before it.
    last = torch.tensor(
        [scored.logprobs[0] for scored in ours.score([(prefix, [token]) for token in range(vocabulary)])]
    )
    assert (last - expected[-1]).abs().max() < 1e-4
    before = torch.tensor(ours.score([(prefix[:1], prefix[1:])])[0].logprobs)
    assert (before - expected[:-1].gather(1, torch.tensor(prefix[1:])[:, None])[:, 0]).abs().max() < 1e-4
    assert last.std() > 1e-4  # no uniform distribution, which any model would agree with


def test_datasets_loads_the_corpus_and_numpy_the_tokens(finished: Path, tmp_path: Path) -> None:
    import numpy as np
    from datasets import load_dataset
    from tokenizers import Tokenizer

    stages = finished / "run" / "stages"
    corpus = load_dataset("parquet", data_dir=str(stages / "corpus"), cache_dir=str(tmp_path / "cache"))
    assert set(corpus) == {"train", "validation"}
    assert len(set(corpus["train"]["text"]) | set(corpus["validation"]["text"])) == sum(map(len, corpus.values()))
    tokenizer = Tokenizer.from_file(str(stages / "tokens" / "tokenizer.json"))
    ids = np.fromfile(stages / "tokens" / "train.bin", dtype=np.uint16)
    texts = tokenizer.decode(ids.tolist(), skip_special_tokens=False).split("<|endoftext|>")
    assert sorted(text for text in texts if text) == sorted(corpus["train"]["text"])
    assert (stages / "tokens" / "train.idx").read_bytes()[:9] == b"MMIDIDX\x00\x00"


# --- what is reused -------------------------------------------------------------------------------------------------


def test_a_second_run_reuses_everything_and_has_the_same_metrics(finished: Path, again: Callable[..., Path]) -> None:
    run = again()
    assert statuses(run) == REUSED
    assert digests(run) == digests(finished / "run")
    assert metrics(run) == metrics(finished / "run")
    assert all(row["reused"] for row in rows_of(run))
    assert run_json(run)["scores"] == run_json(finished / "run")["scores"]
    assert all(facts["built_seconds"] > 0 for facts in run_json(run)["stages"].values())


def test_more_steps_run_only_what_depends_on_them(again: Callable[..., Path]) -> None:
    run = again("pretrain.steps=13")
    assert statuses(run) == only("pretrain", "evaluate")
    assert [row["step"] for row in rows_of(run) if "loss" in row][-1] == 13


@pytest.mark.parametrize(
    ("override", "ran"),
    [
        ("tokenizer.tokenizer.vocab_size=310", {"tokenizer", "tokens", "pretrain", "evaluate"}),
        ("evaluate.sample.max_new_tokens=3", {"evaluate"}),
        ("seed=1", set(STAGES)),
    ],
)
def test_a_change_runs_what_depends_on_it(again: Callable[..., Path], override: str, ran: set[str]) -> None:
    run = again(override)
    assert {stage for stage, status in statuses(run).items() if status == "ran"} == ran


def test_execution_fields_and_places_run_nothing(finished: Path, again: Callable[..., Path], tmp_path: Path) -> None:
    write_texts(tmp_path / "elsewhere")
    run = again(
        "pretrain.log_every=3", "pretrain.checkpoint_every=5", "pretrain.micro_batch=1", "corpus.workers=2",
        "corpus.memory_mb=64", "pretrain.validation_tokens=100", f"data.path={tmp_path / 'elsewhere'}",
    )  # fmt: skip
    assert statuses(run) == REUSED


def test_stages_of_other_names_reuse_too(finished: Path, again: Callable[..., Path]) -> None:
    (finished / "other.yaml").write_text(RECIPE.replace("pretrain", "model"))
    run = again("stages=[corpus,tokenizer,tokens,model]", recipe="other.yaml")
    assert statuses(run) == dict.fromkeys(["corpus", "tokenizer", "tokens", "model"], "reused")
    assert digests(run)["model"] == digests(finished / "run")["pretrain"]


def test_a_byte_of_an_input_counts_and_its_time_does_not(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")

    def run(name: str) -> Path:
        folder = tmp_path / name
        args = ["run", "tiny.yaml", "store.dir=store", f"data.path={texts}", f"run.dir={folder}"]
        cli([*args, "stages=[corpus,tokenizer]"], finished).check()
        return folder

    assert statuses(run("as_before")) == {"corpus": "reused", "tokenizer": "reused"}
    os.utime(texts / "0.txt", (1, 1))
    assert statuses(run("touched")) == {"corpus": "reused", "tokenizer": "reused"}
    text = (texts / "0.txt").read_bytes()
    before = (texts / "0.txt").stat()
    (texts / "0.txt").write_bytes(text.replace(b"a", b"q", 1))
    os.utime(texts / "0.txt", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert statuses(run("edited"))["corpus"] == "ran"


FILTER = """\
from lmgraft.seams.filter import Verdict


class Calm:
    def __init__(self, config):
        pass

    def judge(self, batch):
        return [Verdict() if len(document.text) % 3 else Verdict.drop("shouts") for document in batch]
"""


def test_a_filter_rewritten_with_the_same_output_retrains_nothing(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    light = module("filter", component("calm", "their_calm.calm:Calm"))

    def run(name: str, source: str) -> Path:
        files = {"their_calm/__init__.py": "", "their_calm/plugin.py": light, "their_calm/calm.py": source}
        Distribution("their-calm", files, {"filter": {"calm": "their_calm.plugin"}}).unpack(tmp_path / "site")
        args = ["run", "tiny.yaml", "store.dir=store", f"run.dir={tmp_path / name}", "filter@corpus.filters=[calm]"]
        cli(args, finished, path=[str(tmp_path / "site")]).check()
        return tmp_path / name

    first = run("first", FILTER)
    assert set(statuses(first).values()) == {"ran"}
    assert set(statuses(run("same", FILTER)).values()) == {"reused"}
    commented = run("commented", FILTER + "# as it was\n")
    assert statuses(commented) == only("corpus")
    assert digests(commented) == digests(first)
    other = run("other", FILTER.replace("% 3", "% 2"))
    assert statuses(other) == only(*STAGES)
    parts = {part["name"]: part for part in run_json(other)["components"]}
    assert (parts["calm"]["distribution"], parts["calm"]["version"]) == ("their-calm", "1.0")
    assert parts["calm"]["source"]["kind"] == "wheel"


def test_code_that_changes_under_half_done_work_is_said_and_may_be_accepted(
    cli: WarmCli, finished: Path, tmp_path: Path
) -> None:
    light = module("filter", component("calm", "their_calm.calm:Calm"))

    def run(source: str, *flags: str, **how: Any) -> Done:
        files = {"their_calm/__init__.py": "", "their_calm/plugin.py": light, "their_calm/calm.py": source}
        Distribution("their-calm", files, {"filter": {"calm": "their_calm.plugin"}}).unpack(tmp_path / "site")
        places = [f"store.dir={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}", "stages=[corpus]"]
        args = ["run", "tiny.yaml", *places, "filter@corpus.filters=[calm]", *flags]
        return cli(args, finished, path=[str(tmp_path / "site")], **how)

    aim = {"stage": "corpus", "call": 30}
    for number, (flag, drift) in enumerate([("--accept-drift", True), ("--restart", False)]):
        assert run(FILTER + f"# {number}\n", f"seed={number}", aim=aim).code == -9
        problem = run(FILTER + f"# {number} mended\n", f"seed={number}").problem()
        assert "--accept-drift" in problem
        assert "filters.calm" in problem
        run(FILTER + f"# {number} mended\n", f"seed={number}", flag).check()
        assert ("drift" in run_json(tmp_path / "run")["stages"]["corpus"]) is drift


def test_another_process_with_an_empty_store_makes_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # strings hash otherwise in each process
    command = [sys.executable, "-m", "lmgraft", "run", "tiny.yaml", f"store.dir={tmp_path}/store", "-q"]
    subprocess.run(
        [*command, f"run.dir={tmp_path}/run"], cwd=finished, env=environment, check=True, capture_output=True
    )
    assert statuses(tmp_path / "run") == only(*STAGES)
    assert digests(tmp_path / "run") == digests(finished / "run")
    assert metrics(tmp_path / "run") == metrics(finished / "run")  # floats as json writes them: to the last bit


def test_two_runs_at_once_build_each_stage_once(cli: WarmCli, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    commands = [
        cli.start(["run", "tiny.yaml", "store.dir=store", f"run.dir={name}"], tmp_path) for name in ("one", "two")
    ]
    assert [command.finish().code for command in commands] == [0, 0], [command.err() for command in commands]
    ran = [stage for name in ("one", "two") for stage, status in statuses(tmp_path / name).items() if status == "ran"]
    assert sorted(ran) == sorted(STAGES)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


# --- stopping and failing -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 300 steps without a checkpoint in between, in a folder with its recipe."""
    folder = tmp_path_factory.mktemp("long")
    write_recipe(
        folder, RECIPE.replace("steps: 12", "steps: 300").replace("checkpoint_every: 2", "checkpoint_every: 0")
    )
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], folder).check()
    return folder


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(
    cli: WarmCli, long_run: Path, tmp_path: Path, which: signal.Signals
) -> None:
    run = tmp_path / "run"
    args = ["run", "tiny.yaml", f"store.dir={tmp_path / 'store'}", f"run.dir={run}"]
    command = cli.start(args, long_run)
    wait_for(lambda: count_rows(run) > 5, command)
    command.kill(which)
    done = command.finish()
    assert done.code == 75
    assert which.name in done.err
    assert "goes on" in done.err
    assert "Traceback" not in done.err
    assert run_json(run)["status"] == "stopped"
    assert statuses(run)["pretrain"] == "failed"
    reached = max(row["step"] for row in rows_of(run) if "step" in row)
    assert reached < 300
    assert (run / "report.html").is_file()
    went_on = cli(args, long_run).check()
    assert "going on after step" in went_on.err
    assert run_json(run)["status"] == "done"
    assert digests(run) == digests(long_run / "run")
    assert metrics(run) == metrics(long_run / "run")


def test_a_signal_before_the_first_stage_stops_too(cli: WarmCli, long_run: Path, tmp_path: Path) -> None:
    command = cli.start(
        ["run", "tiny.yaml", f"store.dir={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}"], long_run
    )
    wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists(), command)
    command.kill(signal.SIGTERM)
    assert command.finish().code == 75
    data = run_json(tmp_path / "run")
    assert data["status"] == "stopped"
    assert "running" not in {facts["status"] for facts in data["stages"].values()}


def test_a_second_signal_stops_at_once_and_the_command_still_goes_on(
    cli: WarmCli, long_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    args = ["run", "tiny.yaml", f"store.dir={tmp_path / 'store'}", f"run.dir={run}", "pretrain.steps=299"]
    command = cli.start(args, long_run)
    wait_for(lambda: count_rows(run) > 5, command)
    command.kill(signal.SIGINT)
    time.sleep(0.01)
    command.kill(signal.SIGINT)
    done = command.finish()
    assert done.code == 75, done.err
    assert "Traceback" not in done.err
    assert run_json(run)["status"] == "stopped"
    cli(args, long_run).check()
    assert Store(tmp_path / "store").verify() == []


def test_a_stage_that_fails_leaves_a_run_that_says_so(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={run}", "pretrain.batch=1000"], finished)
    assert "the training split of tokens holds" in done.problem()
    data = run_json(run)
    assert data["status"] == "failed"
    assert statuses(run) == {"corpus": "reused", "tokenizer": "reused", "tokens": "reused", "pretrain": "failed"}
    assert data["stages"]["pretrain"]["key"]
    assert (run / "report.html").is_file()


def test_what_is_no_link_of_a_run_is_never_deleted(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run" / "stages" / "pretrain"
    copied.mkdir(parents=True)
    (copied / "model.safetensors").write_text("the only copy")
    done = cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={tmp_path / 'run'}"], finished)
    assert f"{copied} is in the way" in done.problem()
    assert (copied / "model.safetensors").read_text() == "the only copy"


def test_a_run_directory_is_taken_up_again(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    args = ["run", "tiny.yaml", "store.dir=store", f"run.dir={run}"]
    cli([*args, "pretrain.batch=1000"], finished).problem()
    cli(args, finished).check()
    assert statuses(run) == REUSED
    assert metrics(run) == metrics(finished / "run")


def test_without_a_place_a_run_gets_one_of_its_own(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    args = ["run", finished / "tiny.yaml", f"data.path={finished / 'texts'}", f"store.dir={finished / 'store'}"]
    commands = [cli.start(args, tmp_path) for _ in range(3)]  # in the same second or not
    for command in commands:
        command.finish().check()
    runs = sorted((tmp_path / "runs" / "tiny").iterdir())
    assert len(runs) == 3
    assert all(statuses(run) == REUSED for run in runs)


def test_the_store_lies_in_the_cache_by_default(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    args = ["run", "tiny.yaml", f"run.dir={tmp_path / 'run'}", "stages=[corpus]"]
    cli(args, finished, env={"LMGRAFT_CACHE": str(tmp_path / "cache")}).check()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["store"] == str(tmp_path / "cache" / "store")
    assert len(Store(tmp_path / "cache" / "store").ls()) == 1
