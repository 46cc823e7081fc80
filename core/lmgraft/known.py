"""What is known of a model, for its card: from a recipe's stages, or from the run.json of a run.

A name such as ``org/name`` is that of a folder, where there is one below the working directory, and of a data set of
the hub elsewhere: :func:`hidden` says so, since both may be meant. A card names no folder of this machine's.

Only settings that decide what comes out are told: places on a machine and cadences are ``execution`` settings, and
whatever looks like a secret is masked, as it is in run.json.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lmgraft import secrets
from lmgraft.component import ComponentConfig, StageConfig, is_execution, result_fields
from lmgraft.errors import UserError
from lmgraft.keys import canonical
from lmgraft.recipe import StageNode
from lmgraft.seams.exporter import Known, KnownSource, KnownStage

__all__ = [
    "Described",
    "DescribedPart",
    "as_plain",
    "asked",
    "described",
    "from_run",
    "hidden",
    "lineage",
    "scores",
    "sources",
    "stages",
    "versions",
]

T = TypeVar("T")

_DATASET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class DescribedPart:
    """A part in its slot."""

    slot: str
    seam: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """A stage, wherever it was read from."""

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[DescribedPart, ...] = ()
    inputs: tuple[str, ...] = ()
    """The stages that it reads from."""


def described(stage: StageNode) -> Described:
    """A stage of a recipe that is being run; sources that give nothing are left out."""
    named = {use.slot: use.config for use in stage.parts}
    idle = stage.config.idle(named)
    parts = tuple(
        DescribedPart(
            use.slot, use.seam, use.installed.component.name, _settings(use.config), _license(use.config),
            _dataset(use.config),
        )
        for use in stage.parts
        if not use.execution and use.slot not in idle
    )  # fmt: skip
    inputs = tuple(name for names in stage.inputs.values() for name in names)
    return Described(stage.name, stage.kind, _settings(stage.config), parts, inputs)


def lineage(found: Sequence[Described], last: str) -> list[Described]:
    """The stage ``last`` and those that it comes from, in the order of work."""
    named = {stage.name: stage for stage in found}
    done: dict[str, Described] = {}

    def visit(name: str) -> None:
        if name in named and name not in done:
            for other in named[name].inputs:
                visit(other)
            done[name] = named[name]

    visit(last)
    return list(done.values())


def stages(found: Sequence[Described]) -> tuple[KnownStage, ...]:
    """As an exporter is told them."""
    return tuple(
        KnownStage(
            name=stage.name,
            kind=stage.kind,
            settings=stage.settings,
            parts={part.slot: {"name": part.name, **part.settings} for part in stage.parts},
        )
        for stage in found
    )


def sources(found: Sequence[Described], licenses: Mapping[str, str]) -> tuple[KnownSource, ...]:
    """Every data source of these stages; ``licenses`` (by name) go before what their authors tell."""
    told: dict[tuple[str, str, str], KnownSource] = {}
    for stage in found:
        for part in stage.parts:
            if part.seam == "data_source":
                name = part.slot.partition(".")[2] or part.slot
                license_ = licenses.get(name) or part.license
                source = KnownSource(name=name, part=part.name, dataset=part.dataset, license=license_)
                told.setdefault((name, part.name, part.dataset), source)
    return tuple(told.values())


def asked(known: Known, names: Sequence[str]) -> Known:
    """The facts of these names alone, nothing secret among them."""
    values = {name: getattr(known, name) for name in names}
    return Known(**values)


def as_plain(known: Known, names: Sequence[str]) -> dict[str, Any]:
    """The same as plain data, for a key."""
    return {name: canonical(getattr(known, name)) for name in names}


def hidden(stages: Iterable[StageNode]) -> Iterator[str]:
    """A note for each source of data sets that is given the name of one, where a folder of that name is read."""
    for stage in stages:
        for use in stage.parts:
            if use.seam != "data_source" or not hasattr(use.config, "dataset"):
                continue
            for key, value in vars(use.config).items():
                if isinstance(value, str) and _DATASET.fullmatch(value) and Path(value).is_dir():
                    where = f"{stage.name}.{use.slot}.{key}={value}"
                    yield f"{where} is a folder here, which is read in place of a data set of that name"


def from_run(data: Mapping[str, Any]) -> list[Described]:
    """The stages that a run.json tells of, with the settings of those kinds and parts that are installed."""
    recipe = data.get("recipe")
    resolved: Mapping[str, Any] = recipe if isinstance(recipe, Mapping) else {}
    rows = [row for row in _rows(data, "components") if row.get("stage")]
    kinds = {str(row["stage"]): str(row.get("name")) for row in rows if row.get("seam") == "stage"}
    found = []
    for name, kind in kinds.items():
        node = resolved.get(name)
        own = [row for row in rows if str(row["stage"]) == name and row.get("slot")]
        found.append(_stage_of(name, kind, node if isinstance(node, Mapping) else {}, own))
    return found


def scores(data: Mapping[str, Any], stage: str) -> tuple[dict[str, Any], ...]:
    """What a run.json tells of a stage's scores, and of references beside it."""
    rows = (row for row in _rows(data, "scores") if row.get("stage") == stage)
    return tuple({key: value for key, value in row.items() if key != "evaluate_stage"} for row in rows)


def versions(data: Mapping[str, Any]) -> dict[str, str]:
    """Distribution -> version, in the order of names, with which a run ran by its run.json."""
    environment = data.get("environment")
    told: Mapping[str, Any] = environment if isinstance(environment, Mapping) else {}
    others = told.get("versions")
    found = {"lmgraft": told.get("lmgraft"), **(others if isinstance(others, Mapping) else {})}
    return {str(name): str(version) for name, version in sorted(found.items()) if version}


def _rows(data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """A list of objects in a file that anyone may have edited."""
    found = data.get(key)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def _stage_of(name: str, kind: str, values: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Described:
    config = _config("stage", kind)
    if config is None:
        return Described(name, kind)
    inputs: list[str] = []
    for spec in dataclasses.fields(config):
        if "input" in spec.metadata:
            told = values.get(spec.name)
            inputs += [told] if isinstance(told, str) else [str(one) for one in told] if isinstance(told, list) else []
    uses = {str(row["slot"]): _part_of(row, values) for row in rows}
    ready = {slot: made for slot, (_, made) in uses.items() if made is not None}
    stage = _made(config, values)
    idle: frozenset[str] = _edited(
        lambda: stage.idle(ready) if isinstance(stage, StageConfig) else frozenset(), frozenset()
    )
    parts = tuple(part for slot, (part, _) in uses.items() if slot not in idle | _engines(config))
    return Described(name, kind, _masked(dict(_kept(config, values))), parts, tuple(inputs))


def _engines(config: type[ComponentConfig]) -> frozenset[str]:
    """Slots that change how work is done and not what comes out."""
    return frozenset(spec.name for spec in dataclasses.fields(config) if "slot" in spec.metadata and is_execution(spec))


def _part_of(row: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[DescribedPart, ComponentConfig | None]:
    slot, seam, name = str(row["slot"]), str(row.get("seam")), str(row.get("name"))
    node: Any = values
    for step in slot.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    told: Mapping[str, Any] = node if isinstance(node, Mapping) else {}
    config = _config(seam, name)
    if config is None:
        return DescribedPart(slot, seam, name), None
    made = _made(config, told)
    settings = _masked(dict(_kept(config, told)))
    license_, dataset = _edited(lambda: _license(made), ""), _edited(lambda: _dataset(made), "")
    return DescribedPart(slot, seam, name, settings, license_, dataset), made


def _edited(ask: Callable[[], T], nothing: T) -> T:
    """What settings say of themselves that no check has seen: anyone may have edited the file."""
    try:
        return ask()
    except Exception:
        return nothing


def _config(seam: str, name: str) -> type[ComponentConfig] | None:
    from lmgraft.registry import registry

    try:
        return registry().get(seam, name).component.config
    except UserError:
        return None


def _made(config: type[ComponentConfig], values: Mapping[str, Any]) -> ComponentConfig | None:
    """The settings as an object, for what it says of itself; None where the file was written by other code."""
    names = {spec.name for spec in dataclasses.fields(config) if spec.init}
    try:
        return config(**{key: value for key, value in values.items() if key in names})
    except Exception:
        return None


def _kept(config: type[Any], values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What decides results, as a run.json holds it."""
    hints = typing.get_type_hints(config)
    for spec in dataclasses.fields(config):
        if spec.name not in values or spec.name in ("part", "kind") or is_execution(spec):
            continue
        if "slot" in spec.metadata or "input" in spec.metadata or spec.metadata.get("identity") is True:
            continue
        value, inner = values[spec.name], hints.get(spec.name)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and isinstance(value, Mapping):
            value = dict(_kept(inner, value))
        yield spec.name, value


def _settings(config: ComponentConfig) -> dict[str, Any]:
    return _masked(canonical(result_fields(config)))


def _masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    hidden: dict[str, Any] = secrets.masked(settings, secrets.known())
    return hidden


def _license(config: ComponentConfig | None) -> str:
    """See :class:`lmgraft.seams.data_source.DataSourceConfig`."""
    told = getattr(config, "license", "")
    told = told() if callable(told) else told
    return told if isinstance(told, str) else ""


def _dataset(config: ComponentConfig | None) -> str:
    told = getattr(config, "dataset", "")
    told = told() if callable(told) else told
    return told if isinstance(told, str) and _DATASET.fullmatch(told) is not None and not Path(told).is_dir() else ""
