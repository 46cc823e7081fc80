"""The tracker: hands what core tells of a run to wandb.

Core calls it on a thread of its own, behind a bounded queue, and leaves it alone once it has raised; so whatever wandb
does, training goes on. wandb itself is imported when a run begins and does its writing and sending in a process of its
own. Everything it keeps lies in the run directory, in ``wandb/``.

``wandb/lmgraft.json`` remembers the run's id. A run that did not end as ``done`` and is started again in the same
directory goes on under that id; a train stage that resumes tells its past rows again, which fall onto the same points,
since each stage's metrics are drawn over its own steps.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lmgraft.hookspecs import hookimpl
from lmgraft.seams.lifecycle import RunInfo, StageOutcome
from lmgraft.secrets import known, masked

from lmgraft_wandb.plugin import Mode, WandbConfig, key

__all__ = ["STATE", "Tracker"]

STATE = "lmgraft.json"

#: With no handler set up, logging prints a warning's bare text on the standard error stream.
_log = logging.getLogger(__name__)


class Tracker:
    """Implements the hooks of :mod:`lmgraft.seams.lifecycle`. Builds light: wandb is imported when a run begins."""

    def __init__(self, config: WandbConfig) -> None:
        self._config = config
        self._sweep = _sweep()  # here, since the hooks run on another thread, maybe when the next job has begun
        self._run: Any = None
        self._id = ""
        self._folder = Path()
        self._stages: set[str] = set()

    @hookimpl
    def lmgraft_run_start(self, run: RunInfo) -> None:
        self._folder = run.dir / "wandb"
        self._folder.mkdir(exist_ok=True)  # wandb would go to a temporary folder without a word
        self._id = _remembered(self._folder) or secrets.token_hex(8)
        _remember(self._folder, id=self._id, ended=None, url=None)
        sweep = self._sweep[1] if self._sweep and self._sweep[0] == run.dir else None
        with self._leaving():
            self._run = _begin(self._config, run, self._id, sweep)
        if self._run is not None:
            _remember(self._folder, id=self._id, ended=None, url=_url(self._run))

    @hookimpl
    def lmgraft_step(self, run: RunInfo, stage: str, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            with self._leaving():
                self._show(stage, row)

    @hookimpl
    def lmgraft_stage_end(self, run: RunInfo, stage: str, outcome: StageOutcome) -> None:
        if self._run is not None:
            with self._leaving():
                facts = {f"{stage}/status": outcome.status, f"{stage}/seconds": outcome.seconds}
                self._run.summary.update({**facts, **_scores(run.dir, stage)})

    @hookimpl
    def lmgraft_run_end(self, run: RunInfo, status: str) -> None:
        if self._run is None:
            return
        with self._leaving():
            url = _url(self._run)
            self._run.summary.update({"status": status})
            self._run.finish(exit_code=0 if status == "done" else 1)
            _remember(self._folder, id=self._id, ended=status, url=url)

    def _show(self, stage: str, row: Mapping[str, Any]) -> None:
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        numbers = {
            f"{stage}/{name}": value
            for name, value in row.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        if "step" in row:
            self._run.log(numbers)
        else:  # a count of rows, a fact of the stage: no point of a curve
            split = f"{row['split']}/" if isinstance(row.get("split"), str) else ""
            self._run.summary.update({f"{stage}/{split}{name[len(stage) + 1 :]}": v for name, v in numbers.items()})

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What fails is core's to tell, once. wandb's own clean-up as the process ends would fail again, aloud."""
        try:
            yield
        except Exception:
            self._run = None
            with suppress(Exception):
                import wandb

                wandb.teardown()
            raise


def _begin(config: WandbConfig, run: RunInfo, name: str, sweep: Path | None) -> Any:
    """wandb's run. Where it cannot be begun online it is begun offline; None where WANDB_MODE says disabled."""
    mode = _mode(config)
    if mode == "disabled":
        return None
    # Read when wandb is imported and when its process starts: it reports errors to its makers over the network, offline
    # too; it prints lines into the progress bar; it logs to the user's home.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_CACHE_DIR", str(run.dir / "wandb" / "cache"))
    try:
        import wandb
    except ImportError as error:
        raise RuntimeError(f"wandb cannot be imported ({error}); pip install 'lmgraft[wandb]'") from error
    try:
        return _init(wandb, config, run, name, sweep, mode)
    except Exception as error:
        if mode == "offline":
            raise
        said = str(error).strip().splitlines() or [""]
        _log.warning("note: wandb stays offline: %s: %s", type(error).__name__, said[0])
        # The process still holds the id that it could not begin online.
        return _init(wandb, config, run, f"{name}-offline", sweep, "offline")


def _init(wandb: Any, config: WandbConfig, run: RunInfo, name: str, sweep: Path | None, mode: str) -> Any:
    group = config.group or (sweep.name if sweep else None)
    place = f"{sweep.name}-{run.dir.name}" if sweep else run.dir.name
    settings = {
        "init_timeout": config.patience,
        "finish_timeout": config.patience,
        "reinit": "create_new",  # another run of the same process, or a user's own, is none of ours
        "console": "off",
        "silent": True,
        "disable_git": True,
        "disable_code": True,
        "host": "",
        "x_disable_meta": True,  # host, user and command line, as run.json leaves them out
        "x_disable_stats": not config.system,
        "x_save_requirements": False,
    }
    fields = getattr(wandb.Settings, "model_fields", settings)
    return wandb.init(
        project=config.project,
        entity=config.entity,
        name=config.name or f"{run.recipe}-{place}",
        group=group,
        tags=list(config.tags) or None,
        job_type=run.recipe,
        id=name,
        resume="allow" if mode == "online" else None,
        dir=str(run.dir),
        mode=mode,
        config=masked({**run.config, "seed": run.seed}, known()),
        settings=wandb.Settings(**{field: value for field, value in settings.items() if field in fields}),
    )


def _mode(config: WandbConfig) -> str:
    """``online``, ``offline`` or ``disabled``; never online without a key, for which wandb would ask."""
    wanted = os.environ.get("WANDB_MODE", "") if config.mode is Mode.auto else config.mode.value
    if wanted in ("disabled", "offline"):
        return wanted
    if wanted == "dryrun":
        return "offline"
    return "online" if key() else "offline"


def _url(begun: Any) -> str | None:
    return None if begun.offline else str(begun.url)


def _sweep() -> tuple[Path, Path] | None:
    """The job of a sweep that this process runs: (its run directory, the sweep's folder)."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    # Only a sweep fills Hydra's own node; after it the node stays, so the directory says whether this run is the job.
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if OmegaConf.is_missing(hydra.runtime, "output_dir"):
        return None
    return Path(str(hydra.runtime.output_dir)).absolute(), Path(str(hydra.sweep.dir))


def _remembered(folder: Path) -> str | None:
    """The id of a run in this directory that is not done."""
    try:
        held = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return str(held["id"]) if held["ended"] != "done" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(folder: Path, **facts: Any) -> None:
    partial = folder / f".{STATE}.{os.getpid()}.{threading.get_ident()}"
    partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    partial.replace(folder / STATE)


def _scores(folder: Path, stage: str) -> dict[str, Any]:
    """What an evaluate stage found: ``STAGE/MODEL/NAME``, with the name of the corpus or task where there are many."""
    from lmgraft import manifest

    found: dict[str, Any] = {}
    for row in manifest.read(folder)["scores"]:
        if row.get("evaluate_stage") == stage:
            found[f"{stage}/{row['stage']}/{row['name']}"] = row["value"]
    return found
