"""``--multirun``: every job is composed and checked before the first one starts; one table at the end."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lmgraft import compose, manifest
from lmgraft import recipe as recipes
from lmgraft.cli import _running
from lmgraft.cli._repeat import quoted
from lmgraft.console import Console
from lmgraft.errors import Problem, Stopped, UserError
from lmgraft.rundir import default_run_dir, headline
from lmgraft.runner import Options, Runner

__all__ = ["sweep"]

_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def sweep(recipe: str, overrides: list[str], flags: Mapping[str, Any]) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        cause = f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: every rank would sweep"
        raise UserError(
            Problem("--multirun inside torchrun is refused", cause, "sweep outside, and let each job start its ranks")
        )
    ref = compose.resolve(recipe)
    console = Console(quiet=bool(flags.get("quiet")))
    parent = compose.compose(ref, overrides, multirun=True)
    jobs = _jobs(parent, overrides)
    first = _check(ref, jobs, parent)
    if flags.get("dry_run"):
        rows = [(str(number), swept) for number, swept in enumerate(_swept(jobs or []))]
        console.table(f"{ref.name}: {_count(len(rows))}, all checked; nothing was run", ("job", "swept"), rows)
        return 0
    folder = (_run_dir(parent) or default_run_dir(ref.name)).absolute()
    console.line(f"{ref.name}: {_count(len(jobs)) if jobs else 'an unknown number of jobs'} into {folder}")
    try:
        _launch(ref, overrides, folder, _running.options(ref, overrides, flags), bool(flags.get("quiet")))
    finally:  # where a job fails the others are run all the same, and their scores are wanted
        _table(console, first.name, folder, len(jobs) if jobs else None)
    return 0


def _run_dir(cfg: DictConfig) -> Path | None:
    value = OmegaConf.select(cfg, "run.dir")
    return Path(str(value)).expanduser() if value is not None else None


def _jobs(parent: DictConfig, overrides: list[str]) -> list[list[str]] | None:
    if parent.hydra.sweeper.get("_target_") != _BASIC:
        return None  # an adaptive sweeper chooses its jobs as it goes
    params = parent.hydra.sweeper.get("params")
    plain = OmegaConf.to_container(params) if params is not None else None
    return compose.sweep_jobs(
        overrides, {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else None
    )


def _check(ref: compose.RecipeRef, jobs: list[list[str]] | None, parent: DictConfig) -> recipes.Recipe:
    """Composes and checks each job; problems are reported with the job that has them."""
    if jobs is None:
        with_first = [line for line in OmegaConf.to_container(parent.hydra.overrides.task) if "," not in str(line)]  # type: ignore[union-attr]
        return _running.checked(ref, [str(line) for line in with_first])
    hydra = [str(line) for line in parent.hydra.overrides.hydra]
    problems: list[Problem] = []
    first: recipes.Recipe | None = None
    for number, job in enumerate(jobs):
        try:
            typed = _running.checked(ref, [*hydra, *job])
            first = first or typed
        except UserError as error:
            problems += [
                Problem(f"job {number} ({' '.join(job)}): {p.fact}", p.cause, p.remedy) for p in error.problems
            ]
    if problems or first is None:
        raise UserError(
            problems or Problem("the sweep is empty", "no job came out of it", "KEY=a,b,c sweeps over a key")
        )
    return first


def _launch(ref: compose.RecipeRef, overrides: list[str], folder: Path, options: Options, quiet: bool) -> None:
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    hydra = Hydra(task_name=ref.name, config_loader=compose.loader(ref))
    GlobalHydra.instance().initialize(hydra)
    task = functools.partial(_job, name=ref.name, source=options.source, quiet=quiet,
                             accept_drift=options.accept_drift, restart=options.restart)  # fmt: skip
    ours = [
        f"hydra.sweep.dir={quoted(folder)}",
        "hydra.sweep.subdir=${hydra:job.num}",
        f"hydra.run.dir={quoted(folder)}",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    named = {line.lstrip("+~").partition("=")[0] for line in overrides}
    try:
        hydra.multirun(
            config_name=ref.config_name,
            task_function=task,
            overrides=[*overrides, *(line for line in ours if line.partition("=")[0] not in named)],
            with_log_configuration=False,
        )
    except _Halt as halt:
        raise Stopped(str(halt)) from halt
    finally:
        GlobalHydra.instance().clear()


class _Halt(BaseException):
    """A signal has stopped a job, and means the sweep: any Exception would be that job's alone to Hydra, which goes on
    with the next one."""


def _job(cfg: DictConfig, *, name: str, source: str, quiet: bool, accept_drift: bool, restart: bool) -> float | None:
    """One job, in whatever process the launcher chose. Returns the first score, which optimising sweepers read."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    console = Console(quiet=quiet)
    overrides = [str(line) for line in hydra.overrides.task]
    console.line(f"\njob {hydra.job.num}: {' '.join(overrides)}")
    typed = recipes.read(cfg, name)
    options = Options(source=source, overrides=tuple(overrides), accept_drift=accept_drift, restart=restart)
    try:
        data = Runner(typed, options=options, console=console).run(Path(hydra.runtime.output_dir))
    except Stopped as error:
        raise _Halt(str(error)) from error
    scores = headline(data)
    return float(scores[0]["value"]) if scores else None


def _table(console: Console, name: str, folder: Path, jobs: int | None) -> None:
    """Jobs side by side: what was swept, the model's scores, how much was built."""
    runs = [manifest.read(place) for place in _job_dirs(folder, jobs)]
    if not runs:
        return
    swept = _swept([data["overrides"] for data in runs])
    scores = [score for data in runs for score in headline(data) if not score.get("reference")]
    names = _telling(runs, list(dict.fromkeys((score["stage"], score["name"]) for score in scores)))
    rows = []
    for number, data in enumerate(runs):
        values = {(score["stage"], score["name"]): score["value"] for score in data["scores"]}
        built = [stage for stage, facts in data["stages"].items() if facts.get("status") == "ran"]
        rows.append(
            (
                str(number),
                swept[number],
                *(f"{values[key]:.4f}" if key in values else "" for key in names),
                (", ".join(built) or "nothing") + ("" if data["status"] == "done" else f" ({data['status']})"),
            )
        )
    stages = {stage for stage, _ in names}
    header = [name if len(stages) == 1 else f"{stage} {name}" for stage, name in names]
    console.line()
    console.table(
        f"{name}: {_count(len(runs))} in {folder}",
        ("job", "swept", *header, "built"),
        rows,
        right=tuple(range(2, 2 + len(header))),
    )


#: Scores that fit beside what was swept; run.json and the pages have all of them.
COLUMNS = 5


def _telling(runs: Sequence[Mapping[str, Any]], names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The scores that differ between jobs, of the last model that has any; all where there are few."""
    if len(names) <= COLUMNS:
        return names
    seen: dict[tuple[str, str], set[float]] = {}
    for data in runs:
        for score in data["scores"]:
            seen.setdefault((score["stage"], score["name"]), set()).add(score["value"])
    differ = [name for name in names if len(seen[name]) > 1] or names
    last = differ[-1][0]
    return [name for name in differ if name[0] == last][:COLUMNS]


def _count(jobs: int) -> str:
    return f"{jobs} job{'s' if jobs != 1 else ''}"


def _swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides of each job that not all jobs have."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(line for line in job if line not in common) for job in jobs]


def _job_dirs(folder: Path, jobs: int | None) -> list[Path]:
    """In the jobs' order. An earlier sweep into the same folder may have had more ``jobs`` than this one."""
    numbers = sorted(int(file.parent.name) for file in folder.glob(f"*/{manifest.FILE}") if file.parent.name.isdigit())
    return [folder / str(number) for number in numbers if jobs is None or number < jobs]
