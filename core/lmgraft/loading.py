"""From a folder on disk to a model that answers: for ``generate``, ``evaluate`` and :func:`lmgraft.load`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmgraft import manifest, table
from lmgraft.component import Component
from lmgraft.errors import Problem, UserError
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Architecture
from lmgraft.seams.parallelism import Engine, EnginePlan, ModelHandle
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["architecture_for", "load", "load_tokenizer", "model_folder", "settings_for", "vocab_size"]


def model_folder(place: Path) -> Path:
    """A model folder itself, or the last model that a run directory holds."""
    place = place.expanduser()
    if (place / "config.json").is_file():
        return place
    if (place / manifest.FILE).is_file():
        for name, told in reversed(_stages(place).items()):
            folder = place / "stages" / name
            if told.get("kind") == "export":
                continue  # a copy of one, maybe rounded
            if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors*")):
                return Path(folder).resolve()
        raise UserError(
            Problem(
                f"the run {place} holds no model yet",
                "no stage of it has made one",
                "lmgraft run the recipe to its end",
            )
        )
    cause = (
        "there is no such folder"
        if not place.exists()
        else "neither a model folder (config.json) nor a run directory (run.json)"
    )
    raise UserError(
        Problem(
            f"{place} holds no model", cause, "give a model folder or a run directory; lmgraft runs lists the latter"
        )
    )


def _stages(run: Path) -> dict[str, dict[str, Any]]:
    """What run.json says of each stage. :raises UserError: it is damaged."""
    file = run / manifest.FILE
    try:
        stages = manifest.read(run).get("stages") or {}
        if not isinstance(stages, dict) or not all(isinstance(told, dict) for told in stages.values()):
            raise ValueError("its stages are none")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            Problem(f"{file} cannot be read", str(error), f"name a stage's folder in {run}/stages")
        ) from error
    return stages


def architecture_for(folder: Path) -> Architecture:
    """Builds what a model folder is of: see :func:`settings_for`."""
    part: Architecture = build(*settings_for(folder))
    return part


def settings_for(folder: Path) -> tuple[Component[Any], Any]:
    """Asks the installed architectures which of them this ``config.json`` is of (``from_hub`` of their settings).

    Gives that component and its settings; neither is built, and only light modules are imported.

    :raises UserError: none of them is, or one is and lacks a switch.
    """
    file, config = folder / "config.json", _config(folder)
    kind = str(config.get("model_type", ""))
    rows = [row for row in table.rows() if row.seam == "architecture" and row.state == "unchecked"]
    known: list[str] = []
    # The one of the same name first: others are imported only where that one says no.
    for row in sorted(rows, key=lambda row: row.name != kind):
        try:
            component = registry().get("architecture", row.name).component
        except UserError:
            continue  # a broken plugin that nobody selected
        reader = getattr(component.config, "from_hub", None)
        known += getattr(component.config, "model_types", (row.name,) if reader else ())
        settings = _of_file(file, reader, config) if reader else None
        if settings is not None:
            settings.part = component.name
            return component, settings
    raise UserError(_unknown(file, config, known))


def _of_file(file: Path, reader: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """What a reader says, with the file's place in its problems."""
    try:
        return reader(config)
    except UserError as error:
        problems = [
            replace(problem, fact=problem.fact.replace("config.json", str(file), 1)) for problem in error.problems
        ]
        raise UserError(problems) from error


def _unknown(file: Path, config: dict[str, Any], known: Sequence[str]) -> Problem:
    names = ", ".join(sorted(set(known))) or "none"
    if "model_type" not in config:
        remedy = "take config.json from where the weights came from"
        return Problem(f"{file} names no model_type", f"it says which family a model is of: {names}", remedy)
    kind = config["model_type"]
    near = table.close(str(kind), known)
    cause = f"the installed architectures read {names}"
    remedy = "pip install a plugin that brings it; lmgraft plugins list"
    if near:
        remedy = f"{near} Otherwise {remedy}"
    return Problem(f"{file}: no installed architecture builds model_type {kind!r}", cause, remedy)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(Problem(f"{file} cannot be read", str(error), "give a Hugging Face model folder")) from error
    return config


def load(
    place: str | Path, *, device: str = "auto", precision: str = "auto", parallelism: str = "single"
) -> ModelHandle:
    """The model of a folder or a run directory, to ask: :class:`~lmgraft.seams.parallelism.ModelHandle`."""
    return engine(model_folder(Path(place)), device=device, precision=precision, parallelism=parallelism).handle()


def load_tokenizer(place: str | Path) -> TextTokenizer:
    """The tokenizer beside a model."""
    from lmgraft import openers

    return openers.load_tokenizer(model_folder(Path(place)))


def vocab_size(folder: Path) -> int:
    """Rows of the vocabulary of the model in a folder.

    :raises UserError: ``config.json`` does not tell.
    """
    size = _config(folder).get("vocab_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        cause = "a model cannot be built without it" if size is None else f"it is {size!r}, not a whole number"
        remedy = "take config.json from where the weights came from"
        raise UserError(Problem(f"{folder / 'config.json'} gives no vocab_size", cause, remedy))
    return size


def engine(folder: Path, *, device: str, precision: str, parallelism: str) -> Engine:
    """One engine in this process, for asking only."""
    from lmgraft.devices import resolve_device, resolve_precision
    from lmgraft.training import weights

    place = resolve_device(device)
    architecture, size = architecture_for(folder), vocab_size(folder)
    if misfits := weights.differences(architecture, size, folder):
        raise UserError(misfits)
    plan = EnginePlan(
        architecture=architecture,
        vocab_size=size,
        device=place,
        precision=resolve_precision(precision, place),
        seed=0,
        weights=folder,
    )
    component = registry().get("parallelism", parallelism).component
    settings = component.config()
    settings.part = component.name
    made: list[Engine] = []
    build(component, settings).launch(lambda make: made.append(make(plan)))
    return made[0]
