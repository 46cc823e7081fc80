"""Every command beside ``run``, over one finished run, through the real command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lmgraft.cli import COMMANDS
from lmgraft.store import Store
from tiny_recipe import RECIPE, STAGES, digests, run_json, statuses, write_recipe
from warm_cli import Done, WarmCli

GROUPS = {
    "runs": ("list", "resume", "delete"),
    "store": ("ls", "verify", "gc"),
    "plugins": ("list", "show", "why", "check"),
    "new": ("plugin", "recipe"),
}


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished run's folder as it was at first, to be changed; its links lead into its own store."""
    folder = tmp_path / "copy"
    shutil.copytree(f"{finished}.as_it_was", folder, symlinks=True)
    for link in (folder / "run" / "stages").iterdir():
        target = link.readlink()
        link.unlink()
        link.symlink_to(folder / "store" / target.relative_to(finished / "store"))
    text = (folder / "run" / "run.json").read_text().replace(str(finished), str(folder))
    (folder / "run" / "run.json").write_text(text)
    return folder


# --- help -----------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_shows_examples(cli: WarmCli, tmp_path: Path) -> None:
    said = cli(["--help"], tmp_path).check().out
    assert "lmgraft run quickstart" in said
    assert [line.split()[0] for line in said.splitlines() if line.split()[:1] and line.split()[0] in COMMANDS] == list(
        COMMANDS
    )
    assert "0.1" in cli(["--version"], tmp_path).check().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_that_name_it(cli: WarmCli, tmp_path: Path, command: str) -> None:
    said = cli([command, "--help"], tmp_path).check().out
    assert "Examples:" in said
    assert f"  lmgraft {command}" in said.partition("Examples:")[2]
    for sub in GROUPS.get(command, ()):
        assert "Usage:" in cli([command, sub, "--help"], tmp_path).check().out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rnu"], "did you mean run?"),
        (["zzz"], "lmgraft --help"),
        (["runs", "lst"], "list"),
        (["run"], "RECIPE"),
        (["run", "quickstart", "--bogus"], "--bogus"),
        (["run", "quickstart", "--package", "pretrain"], "--cfg job --package pretrain"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(cli: WarmCli, tmp_path: Path, args: list[str], says: str) -> None:
    done = cli(args, tmp_path)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


# --- explain --------------------------------------------------------------------------------------------------------


def test_explain_says_what_set_a_value_and_who_owns_it(cli: WarmCli, finished: Path) -> None:
    (finished / "more.yaml").write_text("defaults: [recipes/quickstart, _self_]\npretrain: {steps: 12}\n")
    said = cli(["explain", "more.yaml", "pretrain.steps", "pretrain.steps=7"], finished).check().out
    lines = said.splitlines()
    assert lines[0] == "pretrain.steps = 7"
    trail = [line for line in lines if line.startswith("  ")]
    assert [line.rpartition(": ")[2] for line in trail[-2:]] == ["12", "pretrain.steps=7   <- this one counts"]
    assert "more.yaml" in trail[-2]
    assert "quickstart.yaml" in trail[-3]
    assert "owned by: stage train of lmgraft" in said
    assert "meaning:  Optimizer steps." in said


def test_explain_of_a_default_a_part_and_a_group(cli: WarmCli, finished: Path) -> None:
    said = cli(["explain", "tiny.yaml", "pretrain.optimizer.beta1"], finished).check().out
    assert "pretrain.optimizer.beta1 = 0.9" in said
    assert "default of optimizer adamw" in said
    assert "owned by: optimizer adamw" in said
    whole = cli(["explain", "tiny.yaml", "corpus.filters"], finished).check().out
    assert "min_chars: 20" in whole
    assert "${data.path}" in cli(["explain", "tiny.yaml", "corpus.sources.files.path"], finished).check().out


def test_explain_of_a_key_that_is_not_there(cli: WarmCli, finished: Path) -> None:
    assert "did you mean pretrain.steps?" in cli(["explain", "tiny.yaml", "pretrain.stps"], finished).problem()
    assert "did you mean pretrain" in cli(["explain", "tiny.yaml", "pretrian"], finished).problem()


# --- runs -----------------------------------------------------------------------------------------------------------


def test_runs_lists_them_newest_first_with_status_score_and_size(cli: WarmCli, copy: Path) -> None:
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=runs/tiny/b", "pretrain.batch=5000"], copy)
    (copy / "runs" / "broken").mkdir()
    (copy / "runs" / "broken" / "run.json").write_text("{")
    shutil.copytree(copy / "run", copy / "runs" / "tiny" / "a", symlinks=True)
    said = cli(["runs"], copy).check().out
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith(" runs/")}
    assert list(lines) == ["runs/tiny/b", "runs/tiny/a", "runs/broken"]
    assert "failed" in lines["runs/tiny/b"]
    score = next(row["value"] for row in run_json(copy / "run")["scores"] if row["name"] == "bits_per_byte")
    assert f"bits_per_byte {score:.4f}" in lines["runs/tiny/a"]
    assert "kB" in lines["runs/tiny/a"]
    assert "unreadable" in lines["runs/broken"]
    assert "no run below nowhere" in cli(["runs", "list", "nowhere"], copy).check().out


def test_a_killed_run_is_listed_as_one_and_resumed(cli: WarmCli, copy: Path) -> None:
    args = ["run", "tiny.yaml", "store.dir=store", "run.dir=runs/x", "pretrain.steps=10"]
    assert cli(args, copy, aim={"stage": "pretrain", "call": 100}).code == -9
    assert "running or killed in pretrain" in cli(["runs"], copy).check().out
    done = cli(["runs", "resume", "runs/x"], copy).check()
    assert "going on after step" in done.err
    assert statuses(copy / "runs" / "x")["pretrain"] == "ran"
    assert run_json(copy / "runs" / "x")["status"] == "done"
    assert "5 built" not in done.out


def test_resume_finds_a_store_and_a_folder_with_odd_names(cli: WarmCli, copy: Path) -> None:
    args = ["run", "tiny.yaml", "stages=[corpus]", "store.dir=odd, store", 'run.dir="odd = run"']
    cli([*args[:3], 'store.dir="odd, store"', args[4]], copy).check()
    cli(["runs", "resume", "odd = run"], copy).check()
    assert statuses(copy / "odd = run") == {"corpus": "reused"}


def test_delete_asks_and_takes_the_run_and_not_its_artifacts(cli: WarmCli, copy: Path) -> None:
    refused = cli(["runs", "delete", "run"], copy)  # nobody is there to answer
    assert refused.code != 0
    assert (copy / "run").is_dir()
    problem = cli(["runs", "delete", "run", "texts", "-y"], copy).problem()
    assert "texts is no run directory" in problem
    assert (copy / "run").is_dir()  # all of them are runs, or nothing is deleted
    cli(["runs", "delete", "run", "-y"], copy).check()
    assert not (copy / "run").exists()
    assert len(Store(copy / "store").ls()) == len(STAGES)


# --- rerun ----------------------------------------------------------------------------------------------------------


def test_rerun_into_an_empty_store_makes_the_same_bytes(cli: WarmCli, copy: Path) -> None:
    done = cli(["rerun", "run", "run.dir=second", "store.dir=empty"], copy).check()
    assert "5 of 5 artifacts equal the first run's to the byte" in done.out
    assert set(statuses(copy / "second").values()) == {"ran"}
    assert digests(copy / "second") == digests(copy / "run")


def test_rerun_refuses_what_has_changed_and_accepts_it_when_told(cli: WarmCli, copy: Path) -> None:
    (copy / "tiny.yaml").write_text(RECIPE.replace("  steps: 12", "  steps: 11"))
    problem = cli(["rerun", "run", "run.dir=second"], copy).problem()
    assert "the recipe's pretrain.steps has changed" in problem
    assert "--accept-drift" in problem
    assert not (copy / "second").exists()
    done = cli(["rerun", "run", "run.dir=second", "--accept-drift"], copy)
    assert done.code == 1
    assert "3 of 5 artifacts equal" in done.out
    assert "different: pretrain, evaluate" in done.out
    assert run_json(copy / "second")["accepted_drift"] == ["run: the recipe's pretrain.steps has changed"]


def test_rerun_notices_parts_of_another_code_version_or_name(cli: WarmCli, copy: Path) -> None:
    file = copy / "run" / "run.json"
    data = json.loads(file.read_text())
    parts = {part["slot"]: part for part in data["components"]}
    parts["filters.length"]["source"]["package_sha256"] = "0" * 64
    parts["optimizer"]["version"] = "0.0.9"
    parts["schedule"]["name"] = "linear"
    parts["objective"]["slot"] = "goal"
    file.write_text(json.dumps(data))
    problem = cli(["rerun", "run", "run.dir=second"], copy).problem()
    assert "the code of corpus.filters.length (length) has changed" in problem
    assert "its version was 0.0.9 and is 0.1.0" in problem
    assert "its part was linear and is cosine" in problem
    assert "pretrain.goal has changed" in problem
    assert "pretrain.objective has changed" in problem


def test_rerun_takes_no_overrides_but_places(cli: WarmCli, copy: Path) -> None:
    assert "'pretrain.steps=3' is refused" in cli(["rerun", "run", "pretrain.steps=3"], copy).problem()
    assert "texts is no run directory" in cli(["rerun", "texts"], copy).problem()


# --- new, recipes, completion ---------------------------------------------------------------------------------------


def test_a_new_recipe_composes_and_is_not_written_over(cli: WarmCli, tmp_path: Path) -> None:
    said = cli(["new", "recipe", "my_model"], tmp_path).check().out
    assert "lmgraft run my_model.yaml --dry-run" in said
    dry = cli(["run", "my_model.yaml", "--dry-run", "store.dir=store"], tmp_path).check().out
    assert all(stage in dry for stage in STAGES)
    (tmp_path / "my_model.yaml").write_text("mine")
    assert "my_model.yaml is there already" in cli(["new", "recipe", "my_model.yaml"], tmp_path).problem()
    assert (tmp_path / "my_model.yaml").read_text() == "mine"
    cli(["new", "recipe", "my_model", "--force"], tmp_path).check()
    cli(["new", "recipe", "deep/er/other"], tmp_path).check()
    assert (tmp_path / "deep" / "er" / "other.yaml").is_file()
    assert "is refused" in cli(["new", "recipe", "1 bad name"], tmp_path).problem()


def test_a_new_recipe_runs(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    cli(["new", "recipe", "my_model"], tmp_path).check()
    overrides = [
        f"data.path={finished / 'texts'}", "corpus.validation_bytes=3000", "corpus.sources.files.document_bytes=1024",
        "corpus.filters.length.min_chars=20", "tokenizer.tokenizer.vocab_size=300", "pretrain.steps=1",
        "pretrain.batch=2", "pretrain.seq_len=32", "pretrain.architecture.hidden=32", "pretrain.architecture.layers=1",
        "pretrain.architecture.mlp=32", "evaluate.limit=2", "store.dir=store", "run.dir=run", "device=cpu",
        "evaluate.sample.max_new_tokens=2",
    ]  # fmt: skip
    cli(["run", "my_model.yaml", *overrides], tmp_path).check()
    assert run_json(tmp_path / "run")["status"] == "done"


def test_recipes_are_listed_with_their_purpose_and_minutes(cli: WarmCli, tmp_path: Path) -> None:
    rows = json.loads(cli(["recipes", "--json"], tmp_path).check().out)
    quickstart = next(row for row in rows if row["name"] == "quickstart")
    assert set(quickstart) == {"name", "distribution", "purpose", "hardware", "minutes", "expect"}
    assert all(quickstart.values())
    assert "quickstart" in cli(["recipes"], tmp_path).check().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: WarmCli, tmp_path: Path, shell: str) -> None:
    script = cli(["completion", shell], tmp_path).check().out
    assert "_LMGRAFT_COMPLETE" in script
    checker = shutil.which(shell)
    if checker:
        (tmp_path / "script").write_text(script)
        subprocess.run([checker, "-n", tmp_path / "script"], check=True)


COMPLETE = """
import os, sys
words, incomplete = sys.argv[1:-1], sys.argv[-1]
os.environ["COMP_WORDS"] = " ".join(["lmgraft", *words, incomplete])
os.environ["COMP_CWORD"] = str(len(words) + 1)
os.environ["_LMGRAFT_COMPLETE"] = "bash_complete"
from lmgraft.cli import cli
try:
    cli.main(prog_name="lmgraft", complete_var="_LMGRAFT_COMPLETE")
except SystemExit:
    pass
heavy = {"torch", "hydra", "omegaconf", "numpy", "datasets"} & set(sys.modules)
plugins = [name for name in sys.modules if name.startswith("lmgraft_")]
assert not heavy and not plugins, (heavy, plugins)
"""


def complete(folder: Path, *words: str) -> list[str]:
    """What the script gets for the last word; asserts that nothing heavy was imported for it."""
    done = subprocess.run([sys.executable, "-c", COMPLETE, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_completion_knows_commands_recipes_groups_parts_and_keys(finished: Path) -> None:
    assert complete(finished, "re") == ["recipes", "report", "rerun"]
    assert complete(finished, "run", "qui") == ["quickstart"]
    assert complete(finished, "run", "quickstart", "architecture@pretrain.architecture=") == [
        f"architecture@pretrain.architecture={name}"
        for name in ("bloom", "falcon", "gpt2", "llama", "lstm", "mixtral", "pretrained")
    ]
    assert "pretrain.optimizer.lr=" in complete(finished, "run", "quickstart", "pretrain.o")
    assert complete(finished, "run", "quickstart", "schedule@") == ["schedule@pretrain.schedule="]
    assert complete(finished, "run", "tiny.yaml", "pretrain.ste") == ["pretrain.steps="]


# --- generate and report --------------------------------------------------------------------------------------------


def generate(cli: WarmCli, folder: Path, *args: object) -> Done:
    return cli(["generate", *args, "--device", "cpu"], folder)


def test_generate_is_decided_by_the_seed(cli: WarmCli, finished: Path) -> None:
    def text(*args: object) -> str:
        return generate(cli, finished, "run", "ab", "--max-new-tokens", 12, *args).check().out

    assert text("--seed", 1) == text("--seed", 1)
    assert text("--seed", 1) != text("--seed", 2)
    assert text("--temperature", 0, "--seed", 1) == text("--temperature", 0, "--seed", 2)
    assert text("--top-k", 1, "--seed", 1) == text("--temperature", 0)
    assert text("--seed", 1).startswith("ab")


def test_generate_takes_a_model_folder_too(cli: WarmCli, finished: Path) -> None:
    ends = [generate(cli, finished, place, "ab").check().out for place in ("run", "run/stages/pretrain")]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run", "ab " * 100], "the prompt is too long"),
        (["texts", "ab"], "texts holds no model"),
        (["nowhere", "ab"], "there is no such folder"),
        (["run/stages/corpus", "ab"], "holds no model"),
        (["run", "ab", "--max-new-tokens", "0"], "--max-new-tokens 0"),
        (["run", "ab", "--temperature", "-1"], "--temperature -1"),
        (["run", "ab", "--top-p", "0"], "--top-p 0"),
    ],
)
def test_generate_refuses(cli: WarmCli, finished: Path, args: list[str], says: str) -> None:
    assert says in generate(cli, finished, *args).problem()


def test_generate_from_a_folder_that_is_damaged(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    for number, spoil in enumerate(("config.json", "model.safetensors", "tokenizer.json")):
        folder = tmp_path / str(number)
        shutil.copytree(finished / "run" / "stages" / "pretrain", folder)
        folder.chmod(0o755)
        (folder / spoil).chmod(0o644)
        (folder / spoil).write_bytes(b"{not what it was")
        assert str(folder) in generate(cli, finished, folder, "ab").problem()
        (folder / spoil).unlink()
        assert str(folder) in generate(cli, finished, folder, "ab").problem()


@pytest.mark.parametrize("config", [{"model_type": "llama"}, {"vocab_size": 300}, [], None])
def test_generate_from_a_config_that_lacks_much(cli: WarmCli, finished: Path, tmp_path: Path, config: object) -> None:
    shutil.copytree(finished / "run" / "stages" / "pretrain", tmp_path / "model")
    (tmp_path / "model").chmod(0o755)
    (tmp_path / "model" / "config.json").chmod(0o644)
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert "config.json" in generate(cli, finished, tmp_path / "model", "ab").problem()


def test_generate_from_another_architecture(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run" / "stages" / "pretrain", tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.parent.chmod(0o755)
    config.chmod(0o644)
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "mamba"}))
    assert (
        "no installed architecture builds model_type 'mamba'"
        in generate(cli, finished, tmp_path / "model", "x").problem()
    )


def test_report_writes_the_page_anew(cli: WarmCli, copy: Path) -> None:
    (copy / "run" / "report.html").unlink()
    assert cli(["report", "run"], copy).check().out.strip() == "run/report.html"
    page = (copy / "run" / "report.html").read_text()
    assert "bits_per_byte" in page
    assert "https://" not in page
    assert "src=" not in page
    assert "texts is no run directory" in cli(["report", "texts"], copy).problem()


# --- the store ------------------------------------------------------------------------------------------------------


def test_store_ls_says_what_is_there_and_who_uses_it(cli: WarmCli, copy: Path) -> None:
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=here"], copy).check()
    said = cli(["store", "ls", "--dir", "store"], copy).check().out
    assert "5 artifacts" in said
    for stage, digest in digests(copy / "run").items():
        line = next(line for line in said.splitlines() if digest[:12] in line)
        assert stage in line
        assert line.split()[-1] == "2"  # the run that was copied, and this one
    cached = cli(["store", "ls"], copy, env={"LMGRAFT_CACHE": str(copy / "cache")}).check().out
    assert f"the store {copy / 'cache' / 'store'} is empty" in cached
    assert not (copy / "cache").exists()


@pytest.mark.parametrize("command", ["ls", "verify", "gc"])
@pytest.mark.parametrize("place", ["nowhere", "texts", "tiny.yaml"])
def test_what_is_no_store_is_not_called_empty_or_whole(cli: WarmCli, finished: Path, command: str, place: str) -> None:
    assert f"{place} is no store" in cli(["store", command, "--dir", place], finished).problem()
    assert not (finished / "nowhere").exists()


def test_store_verify_finds_and_repairs_a_changed_byte(cli: WarmCli, copy: Path) -> None:
    assert "is whole" in cli(["store", "verify", "--dir", "store"], copy).check().out
    model = (copy / "run" / "stages" / "pretrain" / "model.safetensors").resolve()
    model.chmod(0o644)
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert "model.safetensors has other content" in cli(["store", "verify", "--dir", "store"], copy).problem()
    cli(["store", "verify", "--dir", "store", "--repair"], copy).problem()
    assert "is whole" in cli(["store", "verify", "--dir", "store"], copy).check().out
    before = digests(copy / "run")
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], copy).check()
    assert statuses(copy / "run")["pretrain"] == "ran"
    assert statuses(copy / "run")["tokens"] == "reused"
    assert digests(copy / "run") == before


def test_store_gc_keeps_what_a_run_uses_and_takes_the_rest(cli: WarmCli, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    for name, steps in (("one", 1), ("two", 2)):
        cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={name}", f"pretrain.steps={steps}"], tmp_path).check()
    assert "nothing is unused" in cli(["store", "gc", "--dir", "store", "--grace", 0], tmp_path).check().out
    cli(["runs", "delete", "two", "-y"], tmp_path).check()
    assert "nothing is unused" in cli(["store", "gc", "--dir", "store"], tmp_path).check().out  # a day's grace
    dry = cli(["store", "gc", "--dir", "store", "--grace", 0, "--dry-run"], tmp_path).check().out
    assert "would free" in dry
    assert len(Store(tmp_path / "store").ls()) == len(STAGES) + 2
    freed = cli(["store", "gc", "--dir", "store", "--grace", 0], tmp_path).check().out
    assert "2 finished actions" in freed
    assert len(Store(tmp_path / "store").ls()) == len(STAGES)
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=one", "pretrain.steps=1"], tmp_path).check()
    assert set(statuses(tmp_path / "one").values()) == {"reused"}
    assert "cannot be negative" in cli(["store", "gc", "--grace", -1], tmp_path).problem()
