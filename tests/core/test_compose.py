"""Composing: finding a recipe, what a recipe may do, and how the command line says that it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lmgraft import compose, paths  # noqa: E402
from lmgraft.cli import main  # noqa: E402
from lmgraft.errors import UserError  # noqa: E402
from lmgraft.recipe import read  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from recipe_text import RECIPE, composed, three_lines  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path


def test_recipe_that_is_not_there(folder: Path) -> None:
    for named, fact, cause, remedy in (
        ("quickstrat", "there is no recipe 'quickstrat'", "installed: ", "did you mean quickstart?"),
        ("zzz", "there is no recipe 'zzz'", "quickstart", "lmgraft recipes"),
        ("nope/x.yaml", "there is no recipe file nope/x.yaml", f"seen from {folder}", "check the path"),
        (f"{folder}/", f"there is no recipe file {folder}/", "it is a folder", "check the path"),
    ):
        with pytest.raises(UserError) as error:
            compose.resolve(named)
        problem = error.value.problems[0]
        assert (problem.fact, cause in problem.cause, remedy in problem.remedy) == (fact, True, True)
        three_lines(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quickstrat"],
        ["run", "mine.yaml", "pretrain.optimizer.lrr=1"],
        ["run", "mine.yaml", "pretrain.steps=many", "--dry-run"],
        ["run", "mine.yaml", "optimizer@pretrain.optimizer=adam", "--multirun"],
        ["run", "mine.yaml", "pretrain.steps", "--cfg", "job"],
        ["run", "mine.yaml", "pretrain.data=tokenizer", "--dry-run"],
        ["run", "mine.yaml", "pretrain.optimizer.lr=-1", "--dry-run"],
        ["explain", "mine.yaml", "pretrain.optimizer.lrr"],
    ],
    ids=" ".join,
)
def test_command_line_says_it_in_three_lines(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the message on stderr, nothing on stdout, and no traceback."""
    code, out, err = started(arguments, capsys)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line[:3] for line in lines[1:]] == ["  b", "  t"], err


def test_sweep_says_which_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = started(["run", "mine.yaml", "--multirun", "pretrain.optimizer.lr=1e-3,-1", "seed=1"], capsys)
    assert code == 2
    assert err.startswith("job 1 (pretrain.optimizer.lr=-1 seed=1): pretrain.optimizer.lr does not fit\n")
    assert not (folder / "runs").exists()


# --- what a recipe may do -------------------------------------------------------------------------------------------


def test_extends_an_installed_recipe(folder: Path) -> None:
    (folder / "longer.yaml").write_text(
        "defaults:\n  - recipes/quickstart\n  - _self_\n  - override schedule@pretrain.schedule: step_decay\n"
        "pretrain: {steps: 7}\n"
    )
    stock, longer = composed(Path("quickstart")), composed(folder / "longer.yaml")
    assert [stage.name for stage in longer.stages] == [stage.name for stage in stock.stages]
    assert longer.stage("pretrain").config.steps == 7  # type: ignore[attr-defined]
    assert {part.slot: part.config.part for part in longer.stage("pretrain").parts}["schedule"] == "step_decay"
    assert longer.stage("corpus").config == stock.stage("corpus").config


def test_installed_names_are_never_shadowed(folder: Path) -> None:
    """A file beside the recipe may be called what it likes; an installed name means what is installed."""
    for name in (
        "base",
        "quickstart",
        "tokenizer/byte_bpe",
        "recipes/quickstart",
        "stage/corpus",
        "hydra/launcher/basic",
    ):
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\nseed: 666\n")
    assert composed(folder / "mine.yaml").seed == 0
    assert composed(folder / "mine.yaml", "hydra/launcher=basic").seed == 0
    assert compose.resolve("quickstart").installed
    assert compose.resolve("quickstart").file == paths.recipe_files()["quickstart"][0]
    assert not compose.resolve("./quickstart.yaml").installed
    (folder / "extends.yaml").write_text("defaults: [recipes/quickstart, _self_]\n")
    assert composed(folder / "extends.yaml").seed == composed(Path("quickstart")).seed


def test_a_recipe_may_be_called_like_an_installed_one(folder: Path) -> None:
    (folder / "quickstart.yaml").write_text(RECIPE.replace("steps: 250", "steps: 3"))
    assert composed(folder / "quickstart.yaml").stage("pretrain").config.steps == 3  # type: ignore[attr-defined]


def test_configs_beside_the_recipe(folder: Path) -> None:
    (folder / "size").mkdir()
    (folder / "size" / "small.yaml").write_text("# @package _global_\npretrain: {batch: 2}\n")
    (folder / "size" / "large.yml").write_text("# @package pretrain\nbatch: 64\n")
    (folder / "plain.yaml").write_text("seed: 5\n")
    (folder / "linked.yaml").symlink_to(folder / "plain.yaml")
    (folder / "mine.yaml").write_text(RECIPE.replace("  - _self_", "  - linked\n  - size: small\n  - _self_"))
    assert composed(folder / "mine.yaml").seed == 5
    assert composed(folder / "mine.yaml").stage("pretrain").config.batch == 2  # type: ignore[attr-defined]
    assert composed(folder / "mine.yaml", "size=large").stage("pretrain").config.batch == 64  # type: ignore[attr-defined]
    with pytest.raises(UserError) as error:
        composed(folder / "mine.yaml", "size=larg")
    assert "there is no config size/larg (the command line)" in error.value.problems[0].fact
    assert "large" in error.value.problems[0].remedy


@pytest.mark.parametrize("name", ["mine.yml", "my recipe.yaml", "größe.yaml", "v1.2.yaml"])
def test_names_of_recipe_files(name: str, folder: Path) -> None:
    (folder / name).write_text(RECIPE)
    assert composed(folder / name).name == name.rpartition(".")[0]


def test_file_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "windows.yaml").write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    assert composed(folder / "windows.yaml").stage("pretrain").config.steps == 250  # type: ignore[attr-defined]


def test_references(folder: Path) -> None:
    (folder / "mine.yaml").write_text(
        RECIPE.replace("data: {path: null}", "data: {path: null, lr: 1e-3, same: '${.lr}', text: 'no ${seed} here'}")
        .replace("lr: 2e-3", "lr: '${data.same}', weight_decay: '${.lr}'")
        .replace("min_chars: 200", "min_chars: '${pretrain.steps}'")
    )
    typed = composed(folder / "mine.yaml", "data.lr=4e-3", "seed=3")
    optimizer = next(part.config for part in typed.stage("pretrain").parts if part.slot == "optimizer")
    assert (optimizer.lr, optimizer.weight_decay) == (4e-3, 4e-3)  # type: ignore[attr-defined]
    assert typed.resolved["corpus"]["filters"]["length"]["min_chars"] == 250
    assert typed.resolved["data"]["text"] == "no 3 here"


def test_yaml_anchors_and_merge_keys(folder: Path) -> None:
    text = RECIPE.replace("data: {path: null}", "data: &data {path: null}\nmore: {<<: *data, x: '${data.path}'}")
    (folder / "mine.yaml").write_text(text.replace("  steps: 250", "  steps: 250\n  seed: ${more.x}"))
    assert composed(folder / "mine.yaml").resolved["more"] == {"path": None, "x": None}


@pytest.mark.parametrize("names", [["exact_dedup", "length"], ["length", "exact_dedup"]])
def test_the_command_line_orders_filters(names: list[str], folder: Path) -> None:
    typed = composed(folder / "mine.yaml", f"filter@corpus.filters=[{','.join(names)}]")
    parts = [part.slot for part in typed.stage("corpus").parts if part.seam == "filter"]
    assert parts == [f"filters.{name}" for name in names]
    assert list(typed.stage("corpus").config.filters) == names  # type: ignore[attr-defined]


def test_sweep_in_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = "hydra: {sweeper: {params: {tokenizer.tokenizer.vocab_size: '300,400', schedule@pretrain.schedule: 'cosine,step_decay'}}}"  # noqa: E501
    (folder / "mine.yaml").write_text(RECIPE + sweep + "\n")
    code, out, _ = started(["run", "mine.yaml", "--multirun", "--dry-run"], capsys)
    assert code == 0
    assert "mine: 4 jobs, all checked" in out
    assert "tokenizer.tokenizer.vocab_size=400 schedule@pretrain.schedule=step_decay" in out
    code, out, _ = started(
        ["run", "mine.yaml", "--multirun", "--dry-run", "tokenizer.tokenizer.vocab_size=500"], capsys
    )
    assert (code, "mine: 2 jobs" in out, "=300" in out) == (0, True, False)


@pytest.mark.parametrize("choice", ["basic", "joblib"])
def test_launcher_in_a_recipe(choice: str, folder: Path) -> None:
    if choice == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    text = RECIPE.replace("  - _self_", f"  - _self_\n  - override hydra/launcher: {choice}")
    fields = {"basic": "", "joblib": "hydra: {launcher: {n_jobs: 2, verbose: 1, batch_size: auto}}\n"}
    (folder / "mine.yaml").write_text(text + fields[choice])
    cfg = compose.compose(compose.resolve("mine.yaml"), [], multirun=True)
    assert cfg.hydra.runtime.choices["hydra/launcher"] == choice
    assert cfg.hydra.launcher.get("n_jobs") == {"basic": None, "joblib": 2}[choice]
    assert read(cfg, "mine").name == "mine"


def test_sweep_that_runs(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's sweep over a few words of text: two runs, one folder each, and nothing of Hydra's besides."""
    monkeypatch.setenv("LMGRAFT_CACHE", str(folder / "cache"))
    (folder / "text.txt").write_text("A few words.\n" * 9)
    (folder / "tiny.yaml").write_text(
        "defaults:\n  - base\n  - stage@corpus: corpus\n  - data_source@corpus.sources: [files]\n  - _self_\n"
        "  - override hydra/launcher: basic\nstages: [corpus]\ncorpus: {sources: {files: {path: text.txt}}}\n"
        "hydra: {sweeper: {params: {corpus.shard_bytes: '2048,4096'}}}\n"
    )
    code, out, _ = started(["run", "tiny.yaml", "--multirun", "run.dir=swept", "-q"], capsys)
    assert code == 0
    assert "corpus.shard_bytes=4096" in out
    assert sorted(path.name for path in (folder / "swept").iterdir() if path.is_dir()) == ["0", "1"]
    assert not [path for path in (folder / "swept").rglob("*") if path.name == ".hydra"]


def test_jobs_of_a_sweep() -> None:
    assert compose.sweep_jobs(["a=1,2", "b=x"], None) == [["a=1", "b=x"], ["a=2", "b=x"]]
    assert compose.sweep_jobs(["a=3"], {"a": "1,2", "c": "range(0,2)"}) == [["c=0", "a=3"], ["c=1", "a=3"]]
    assert compose.sweep_jobs(["hydra/launcher=basic", "hydra.job.name=x"], {"a": 1}) == [["a=1"]]


def test_hydra_node_says_what_was_chosen(folder: Path) -> None:
    cfg: Any = compose.compose(compose.resolve("mine.yaml"), ["pretrain.steps=3", "hydra.job.name=x"])
    assert OmegaConf.to_container(cfg.hydra.overrides) == {"hydra": ["hydra.job.name=x"], "task": ["pretrain.steps=3"]}
    assert cfg.hydra.runtime.choices["optimizer@pretrain.optimizer"] == "adamw"


def started(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err
