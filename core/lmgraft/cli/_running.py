"""What ``lmgraft run`` does with one recipe: run it, or show its config."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft import compose
from lmgraft import recipe as recipes
from lmgraft.console import Console, duration
from lmgraft.errors import Problem, UserError
from lmgraft.printable import printable
from lmgraft.rundir import default_run_dir, headline
from lmgraft.runner import Options, Runner

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lmgraft.recipe import Recipe

__all__ = ["checked", "look", "options", "score_table", "single"]


def options(ref: compose.RecipeRef, overrides: list[str], flags: Mapping[str, Any]) -> Options:
    return Options(
        source=ref.name if ref.installed else str(ref.file),
        overrides=tuple(overrides),
        accept_drift=bool(flags.get("accept_drift")),
        restart=bool(flags.get("restart")),
    )


def checked(ref: compose.RecipeRef, overrides: list[str]) -> Recipe:
    return recipes.read(compose.compose(ref, overrides), ref.name, ref.given)


def single(recipe: str, overrides: list[str], flags: Mapping[str, Any]) -> int:
    ref = compose.resolve(recipe)
    typed = checked(ref, overrides)
    console = Console(quiet=bool(flags.get("quiet")))
    runner = Runner(typed, options=options(ref, overrides, flags), console=console)
    if flags.get("dry_run"):
        return _forecast(runner, typed, console)
    folder = typed.run_dir or default_run_dir(ref.name)
    _prove(runner)
    data = runner.run(folder)
    console.line()
    score_table(console, data)
    _samples(folder, data)
    _next(recipe, folder, data)
    return 0


def _prove(runner: Runner) -> None:
    """Under torchrun all ranks must see one store."""
    if "WORLD_SIZE" in os.environ:
        from lmgraft.training import joining

        if joining.joined():
            joining.prove(runner.store.root)


def _forecast(runner: Runner, typed: Recipe, console: Console) -> int:
    for note in typed.notes:
        console.line(f"note: {note}")
    words = {"reused": "is reused", "runs": "would run", "depends": "would run, unless its inputs come out as before"}
    rows = [(stage.name, stage.kind, words[what]) for stage, what in runner.forecast()]
    console.table(f"{typed.name}: nothing was run", ("stage", "kind", "what"), rows)
    return 0


def look(recipe: str, overrides: list[str], flags: Mapping[str, Any]) -> int:
    """Hydra's --cfg, --info and --hydra-help over our composition."""
    from hydra._internal.hydra import Hydra

    ref = compose.resolve(recipe)
    loader = compose.loader(ref)
    hydra = Hydra(task_name=ref.name, config_loader=loader)
    if flags["hydra_help"]:
        print(HYDRA_HELP)
        return 0
    cfg = compose.compose(ref, overrides)  # the errors in three lines; Hydra's own would come with a traceback
    if flags["cfg"]:
        _show(cfg, flags["cfg"], flags["package"], resolve=flags["resolve"])
    else:
        hydra.show_info(flags["info"], config_name=ref.config_name, overrides=overrides)
    return 0


def _show(cfg: DictConfig, what: str, package: str | None, *, resolve: bool) -> None:
    """Prints the config. Hydra's own show_cfg resolves in place, and text that spells a resolver a second time."""
    from omegaconf import OmegaConf

    recipe = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    parts: dict[str, Any] = {
        "job": OmegaConf.to_container(recipe, resolve=resolve, enum_to_str=True),
        # Hydra's own node refers to a job that is not running: it is shown as it is written.
        "hydra": {"hydra": OmegaConf.to_container(cfg.hydra, resolve=False, enum_to_str=True)},
    }
    node: Any = {**parts["job"], **parts["hydra"]} if what == "all" else parts[what]
    for step in package.split(".") if package and package != "_global_" else ():
        if not isinstance(node, dict) or step not in node:
            there = ", ".join(map(str, node)) if isinstance(node, dict) else "no nodes"
            raise UserError(
                Problem(f"--package {package}", f"{step!r} is not there; there is {there}", "--package STAGE")
            )
        node = node[step]
    print(OmegaConf.to_yaml(OmegaConf.create(node)) if isinstance(node, (dict, list)) else f"{node}\n", end="")


HYDRA_HELP = """Hydra composes the recipe; its settings live under the node `hydra` and are set on the command line:
  hydra/launcher=joblib hydra.launcher.n_jobs=2     two jobs of a sweep at once
  hydra/sweeper=optuna                              another way to choose jobs (pip install 'lmgraft[sweep]')
  'hydra.sweeper.params={pretrain.steps: "100,200"}'
Overrides: KEY=VALUE sets, +KEY=VALUE adds, ~KEY deletes, GROUP@WHERE=NAME swaps a part, a,b,c sweeps with --multirun.
The whole grammar: https://hydra.cc/docs/1.3/advanced/override_grammar/basic/"""


#: More models than this do not fit beside one another in a terminal; they stand one below the other then.
BESIDE = 6


def score_table(console: Console, data: Mapping[str, Any]) -> None:
    """One row a score; several models beside one another, as on the page."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for score in headline(data):
        name = score["name"] + (" (of the same data)" if score.get("reference") else "")
        key = (score.get("evaluator", ""), name, score.get("unit", ""))
        found.setdefault(key, {})[score.get("stage", "")] = f"{score['value']:.4f}"
    models = list(dict.fromkeys(model for values in found.values() for model in values))
    if not found:
        return
    if 1 < len(models) <= BESIDE:
        rows = [
            (evaluator, name, *(values.get(model, "") for model in models))
            for (evaluator, name, _), values in found.items()
        ]
        console.table("Scores", ("evaluator", "score", *models), rows, right=tuple(range(2, 2 + len(models))))
    else:
        rows = [
            (m, evaluator, name, v[m], unit) for m in models for (evaluator, name, unit), v in found.items() if m in v
        ]
        console.table("Scores", ("model", "evaluator", "score", "value", "unit"), rows, right=(3,))


def _samples(folder: Path, data: Mapping[str, Any]) -> None:
    from lmgraft.artifacts import scores

    settings = [(data.get("recipe") or {}).get(name, {}).get("sample") or {} for name in data["stages"]]
    questions = {text for sample in settings for text in sample.get("chat") or ()}
    for place in sorted((folder / "stages").iterdir()):
        for sample in scores.read_samples(place) if (place / "samples.json").is_file() else []:
            asked = sample["prompt"] in questions
            print(f"Sample of {sample['stage']} {'asked' if asked else 'after'} {sample['prompt']!r}:")
            text = sample["text"] if asked else sample["prompt"] + sample["text"]
            print("  " + printable(text.strip()).replace("\n", "\n  ") + "\n")


def _next(recipe: str, folder: Path, data: Mapping[str, Any]) -> None:
    built = sum(stage.get("status") == "ran" for stage in data["stages"].values())
    print(
        f"{folder}: {len(data['stages'])} stage{'s' if len(data['stages']) != 1 else ''}, {built} built, in"
        f" {duration(data['seconds'])}."
        f" The page: {folder / 'report.html'}\n"
    )
    trained = [name for name, stage in data["stages"].items() if stage.get("kind") == "train"]
    given = "".join(f" {shlex.quote(text)}" for text in data["overrides"] if not text.startswith("run.dir="))
    print("Next:")
    if trained:
        print(f"  lmgraft generate {folder} {shlex.quote(_prompt(data))}")
        print(f"  lmgraft run {recipe}{given} --multirun {trained[-1]}.optimizer.lr={_rates(data, trained[-1])}")
        print(f"  lmgraft explain {recipe} {trained[-1]}.optimizer.lr")
    else:
        print(f"  lmgraft report {folder}\n  lmgraft run {recipe}{given} --dry-run\n  lmgraft recipes")


def _prompt(data: Mapping[str, Any]) -> str:
    """What the recipe itself asks its last model, a question first where it answers those."""
    config = data.get("recipe") or {}
    samples = [config.get(name, {}).get("sample") or {} for name in data["stages"]]
    asked = [text for key in ("chat", "prompts") for sample in samples for text in sample.get(key) or ()]
    return str(asked[0]) if asked else "The "


def _rates(data: Mapping[str, Any], stage: str) -> str:
    """Half of the learning rate, itself and twice as much."""
    rate = ((data.get("recipe") or {}).get(stage, {}).get("optimizer") or {}).get("lr")
    return ",".join(f"{rate * factor:g}" for factor in (0.5, 1, 2)) if isinstance(rate, float) else "1e-3,2e-3"
