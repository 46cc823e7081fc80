"""A composed config becomes a typed recipe, after every check that needs no heavy import.

All problems are collected and reported together, each with the key it stands at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft import fitting, leftovers, nodes, sound, table
from lmgraft.component import ComponentConfig, StageConfig
from lmgraft.errors import Problem, UserError
from lmgraft.misplaced import in_place_of_part, in_place_of_stage, part_by_hand
from lmgraft.phrases import a, part_names, parts_of
from lmgraft.registry import Installed, registry, requirements
from lmgraft.version import MANY

__all__ = ["PartUse", "Recipe", "StageNode", "read"]

#: Root keys with a meaning of their own; every other root node is a stage or a value that something refers to.
ROOT = frozenset({"run", "store", "seed", "device", "precision", "lifecycle", "stages", "hydra"})
#: Seams of which a recipe has one part for all its stages, in the root node of the seam's name: a stage whose slot of
#: this seam is empty takes that one.
COMMON = frozenset({"parallelism"})
#: What every recipe has from conf/base.yaml.
_BASE = ("run", "store", "seed", "device", "precision", "lifecycle")
_DEVICES = ("auto", "cpu", "cuda", "mps")
_PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class PartUse:
    """A part in its place."""

    path: str
    """``pretrain.optimizer`` or ``corpus.filters.length``."""
    slot: str
    """The same within the stage: ``optimizer``, ``filters.length``."""
    seam: str
    """The seam or door that it is of."""
    installed: Installed
    """The component (``installed.component``) and where it comes from (``installed.row.distribution``)."""
    config: ComponentConfig
    """Its settings; ``config.part`` is its name."""
    execution: bool = False
    """In a slot that stays out of the action key."""


@dataclass(frozen=True, slots=True)
class StageNode:
    """A stage in a recipe."""

    name: str
    """Its name in the recipe."""
    installed: Installed
    """The component of its kind, and where that comes from."""
    config: StageConfig
    """Its settings; what stands in its slots is in ``parts``."""
    parts: tuple[PartUse, ...]
    """The parts in its slots, in the recipe's order."""
    inputs: Mapping[str, tuple[str, ...]]
    """Role (the config's field) -> the stages it names."""

    @property
    def kind(self) -> str:
        """``corpus``, ``train`` ...: the name of its component."""
        return self.installed.component.name


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe, read and typed: what ``check_recipe`` looks at."""

    name: str
    """Its name, or that of its file."""
    stages: tuple[StageNode, ...]
    """In the order of work."""
    seed: int
    """For every stage that sets none of its own."""
    device: str
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    precision: str
    """``auto``, ``float32`` or ``bfloat16``, for stages whose own is ``auto``."""
    run_dir: Path | None
    """Where the run is kept; None: ``runs/NAME/TIME``."""
    store_dir: Path | None
    """Where artifacts are kept; None: the usual place."""
    trackers: tuple[PartUse, ...]
    """The lifecycle parts."""
    resolved: Mapping[str, Any]
    """The whole config, references resolved: what run.json holds."""
    notes: tuple[str, ...] = ()
    """What the person who composed it should know: what was left out."""
    given: str = ""
    """What to type for it, in messages."""
    """Lines for the person who runs it."""

    def stage(self, name: str) -> StageNode:
        """The stage of this name, which is there."""
        return next(stage for stage in self.stages if stage.name == name)

    def upstream(self, name: str) -> list[StageNode]:
        """The stages that this one reads from, directly or not, nearest first."""
        found: list[StageNode] = []
        waiting = [other for names in self.stage(name).inputs.values() for other in names]
        while waiting:
            stage = self.stage(waiting.pop(0))
            if stage not in found:
                found.append(stage)
                waiting += [other for names in stage.inputs.values() for other in names]
        return found


@dataclass(slots=True)
class _Reader:
    cfg: DictConfig
    name: str
    given: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, fact: str, cause: str, remedy: str) -> None:
        self.problems.append(Problem(fact, cause, remedy))

    # --- the root ---------------------------------------------------------------------------------------------------

    def stage_names(self) -> list[str]:
        stages = self.cfg.get("stages")
        if not OmegaConf.is_list(stages) or not stages:
            self.problem(
                "stages is missing or no list", "it is the order of the recipe's work", "stages: [corpus, ...]"
            )
            return []
        names = [str(name) for name in stages]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problem(f"stages names {name} twice", "a stage runs once", "give the second one a name of its own")
        return list(dict.fromkeys(names))

    def root(self) -> None:
        missing = [key for key in _BASE if key not in self.cfg]
        if missing:
            cause = f"{', '.join(missing)} are not there, which every recipe has from `base`"
            self.problem(f"{self.name} has no base", cause, "add `- base` first in its defaults list")
            raise UserError(self.problems)
        for name, allowed in (("device", _DEVICES), ("precision", _PRECISIONS)):
            if self.cfg.get(name) not in allowed:
                # No "did you mean": gpu is closer to cpu than to what was meant.
                self.problem(f"{name}={self.cfg.get(name)}", f"it is one of {', '.join(allowed)}", f"{name}=auto")
        seed: Any = self.cfg.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool):
            self.problem(f"seed={seed}", "it is a whole number", "seed=0")

    def unused(self, names: list[str]) -> None:
        """Root nodes that nothing uses; asked last, since another problem can be why nothing refers to a node."""
        referred = nodes.references(self.cfg)
        for key in map(str, self.cfg):
            typed = nodes.class_of(self.cfg._get_node(key))
            if (
                key in ROOT
                or key in COMMON
                or key in referred
                or (typed is not None and issubclass(typed, StageConfig))
            ):
                continue
            if self.notes:  # it served a part that was deselected
                self.notes.append(f"{key} is set and not used: nothing that is selected refers to it")
                continue
            words = [*names, *ROOT, *COMMON, *referred]
            cause = "it is no setting, no stage, and nothing refers to it"
            self.problem(
                f"{key} is set and never used", cause, table.close(key, words) or f"take {key} out of the recipe"
            )

    # --- stages and their slots -------------------------------------------------------------------------------------

    def stage(self, name: str, before: list[str]) -> StageNode | None:
        node = self.node(name)
        kind = nodes.class_of(node)
        if kind is None or not issubclass(kind, StageConfig) or node._is_interpolation() or node._is_none():
            others = [str(key) for key in self.cfg if key not in ROOT | COMMON and str(key) != name]
            self.problems.append(in_place_of_stage(name, node, others))
            return None
        assert isinstance(node, DictConfig)
        installed = self.installed("stage", node, kind, name)
        if installed is None:
            return None
        parts = [
            part for spec in dataclasses.fields(kind) if "slot" in spec.metadata for part in self.slot(name, node, spec)
        ]
        config = self.object(node, name, kind)
        if config is None:
            return None
        assert isinstance(config, StageConfig)
        self.inherit(config)
        inputs = {
            spec.name: self.input(name, spec, getattr(config, spec.name), before)
            for spec in dataclasses.fields(kind)
            if "input" in spec.metadata
        }
        return StageNode(name, installed, config, tuple(parts), inputs)

    def node(self, name: str) -> Any:
        return self.cfg._get_node(name) if name in self.cfg else None

    def inherit(self, config: StageConfig) -> None:
        """A stage's ``precision: auto`` and ``seed: null`` mean the run's."""
        precision = getattr(config, "precision", None)
        if isinstance(precision, Enum) and precision.value == "auto" and self.cfg.precision in _PRECISIONS:
            config.precision = type(precision)(self.cfg.precision)  # type: ignore[attr-defined]

    def slot(self, stage: str, node: DictConfig, spec: dataclasses.Field[Any]) -> list[PartUse]:
        seam, where = spec.metadata["slot"], f"{stage}.{spec.name}"
        value = node._get_node(spec.name)
        if spec.metadata["many"]:
            return self.many(where, spec.name, seam, value, optional=spec.metadata["optional"])
        if value is None or (not isinstance(value, DictConfig) and value._value() is None):
            if seam in COMMON and self.node(seam) is not None:
                part = self.part(seam, spec.name, seam, self.node(seam), execution=spec.metadata["execution"])
                return [part] if part else []
            if not spec.metadata["optional"]:
                choice = f"{seam}@{where}=NAME, of {', '.join(part_names(seam))}"
                self.problem(f"{where} is empty", f"the stage needs one {seam}", choice)
            return []
        if nodes.class_of(value) is None and isinstance(value, DictConfig) and spec.metadata["optional"]:
            # What the recipe sets for the part that ~SEAM@STAGE.SLOT takes away stays in the composition.
            choice = f"{where}=null for none, or {seam}@{where}=NAME, of {', '.join(part_names(seam))}"
            self.problem(f"{where} has no part", f"values are set there and no {seam} is chosen", choice)
            return []
        part = self.part(where, spec.name, seam, value, execution=spec.metadata["execution"])
        return [part] if part else []

    def many(self, where: str, slot: str, seam: str, value: Any, *, optional: bool) -> list[PartUse]:
        if not isinstance(value, DictConfig) or value._is_interpolation() or value._is_none():
            self.problems.append(in_place_of_part(where, seam, value, many=True))
            return []
        found = []
        for key in list(value):
            child = value._get_node(key)
            if not isinstance(child, DictConfig):
                cause = f"that key holds the settings of the {seam} {key}, not a value"
                self.problem(f"{where}.{key} is set to a plain value", cause, f"{where}.{key}.SETTING=VALUE")
                continue
            if child._is_interpolation() or (nodes.class_of(child) is None and "part" in child):
                named = {str(name): nodes.class_of(value._get_node(name)) for name in value}
                chosen = ",".join(name for name, kind in named.items() if kind and name in parts_of(seam, kind))
                cause = f"{a(seam)} stands under its own name, or a key, and is chosen by its group, never set by hand"
                choice = f"{seam}@{where}=[{chosen},NAME], of {', '.join(part_names(seam))}"
                self.problem(f"{where}.{key} is no part", cause, choice.replace("[,", "["))
                continue
            if nodes.class_of(child) is None:
                # The recipe sets values of a part that the command line then deselects.
                self.notes.append(f"{where}.{key} is not selected; the values that the recipe sets for it are dropped")
                OmegaConf.set_struct(value, False)
                del value[key]
                continue
            part = self.part(f"{where}.{key}", f"{slot}.{key}", seam, child)
            if part:
                found.append(part)
        if not found and not optional and not any(where in problem.fact for problem in self.problems):
            choice = f"{seam}@{where}=[NAME], of {', '.join(part_names(seam))}"
            self.problem(f"{where} is empty", f"the stage needs {a(seam)}", choice)
        return found

    def part(self, where: str, slot: str, seam: str, value: Any, *, execution: bool = False) -> PartUse | None:
        kind = nodes.class_of(value)
        if not isinstance(value, DictConfig) or value._is_interpolation():
            self.problems.append(in_place_of_part(where, seam, value))
            return None
        if kind is None or not issubclass(kind, ComponentConfig):
            cause = f"values are set there and no {seam} is chosen"
            self.problem(f"{where} has no part", cause, f"{seam}@{where}=NAME, of {', '.join(part_names(seam))}")
            return None
        installed = self.installed(seam, value, kind, where)
        config = self.object(value, where, kind) if installed else None
        if installed is None or config is None:
            return None
        self.problems += requirements(installed.component, where)
        return PartUse(where, slot, seam, installed, config, execution)

    def installed(self, seam: str, node: DictConfig, kind: type, where: str) -> Installed | None:
        """The part behind a typed node; ``part`` and ``kind`` must still be the name that was chosen."""
        chosen = parts_of(seam, kind)
        key = "kind" if seam == "stage" else "part"
        for word in {key, "part"}:
            value = str(node._get_node(word)._value())  # type: ignore[union-attr]
            if value not in chosen:
                # Under a key of its own a part is chosen for that key; else it is one of the list above it.
                listed = seam in MANY and where.rpartition(".")[2] in chosen
                self.problems.append(part_by_hand(where, word, value, seam, many=listed))
                return None
        try:
            return registry().get(seam, str(node._get_node(key)._value()), where)  # type: ignore[union-attr]
        except UserError as error:
            self.problems += error.problems
            return None

    def object(self, node: DictConfig, where: str, kind: type) -> ComponentConfig | None:
        """The typed settings, or the problems that keep them from being read: unset keys, dead references."""
        # OmegaConf names them from the root.
        unset = sorted(key.removeprefix(f"{where}.") for key in OmegaConf.missing_keys(node))
        missing = [key for key in unset if not nodes.inside_slot(key, kind)]
        for key in missing:
            self.problem(f"{where}.{key} is not set", "it has no default", f"{where}.{key}=VALUE")
        if missing:
            return None
        try:
            return nodes.settings(node, kind)
        except OmegaConfBaseException as error:
            first = str(error).splitlines()[0]
            self.problem(f"{where} cannot be read", first, f"lmgraft explain {self.given} {error.full_key or where}")
            return None

    def input(self, stage: str, spec: dataclasses.Field[Any], value: Any, before: list[str]) -> tuple[str, ...]:
        where, kinds = f"{stage}.{spec.name}", spec.metadata["input"]
        names = [] if value is None else [str(name) for name in ([value] if isinstance(value, str) else value)]
        one = value is None or isinstance(value, str)
        nothing = f"{where}={'null' if one else '[]'}" if spec.metadata["optional"] else ""
        if not names and not nothing:
            self.problem(f"{where} is empty", f"the stage reads {' or '.join(kinds)}", f"{where}=STAGE")
        fits = [other for other in before if self.makes(other) in kinds]
        for name in names:
            other = ("{}" if one else "[{}]").format(fits[-1] if fits else "STAGE")
            choice = table.close(name, fits) or (f"{where}={other}" if fits else "")
            if name == stage:
                self.problem(f"{where}={name}", "no stage reads what it makes itself", choice or nothing or "STAGE")
            elif name not in before and name in [str(other) for other in self.cfg.stages]:
                self.problem(f"{where}={name}", "that stage comes later", f"move {name} before {stage} in stages")
            elif name not in before:
                remedy = choice or nothing or "add it to stages, before this one"
                self.problem(f"{where}={name}", "that stage is not among `stages`", remedy)
            elif self.makes(name) not in kinds:
                cause = f"that stage makes a {self.makes(name)} artifact; {' or '.join(kinds)} is read here"
                # No "did you mean": the name is a stage's and spelt well.
                self.problem(f"{where}={name}", cause, f"{where}={other}")
        return tuple(name for name in names if name in before)

    def makes(self, stage: str) -> str:
        return str(getattr(nodes.class_of(self.node(stage)), "artifact", "") or "nothing")

    def trackers(self) -> list[PartUse]:
        value = self.cfg._get_node("lifecycle")
        return self.many("lifecycle", "lifecycle", "lifecycle", value, optional=True) if value is not None else []


def read(cfg: DictConfig, name: str, given: str = "") -> Recipe:
    """The typed recipe, or one :class:`UserError` with every problem found; ``given`` is what the user typed for it."""
    loose = sound.loose_references(cfg)
    if loose:  # no value can be read where one of these stands
        raise UserError(loose)
    reader = _Reader(cfg, name, given or name, list(sound.extra_keys(cfg)), notes=leftovers.notes(cfg))
    names = reader.stage_names()
    reader.root()
    stages = [reader.stage(stage, names[:index]) for index, stage in enumerate(names)]
    trackers = reader.trackers()
    if not reader.problems:
        reader.unused(names)
    if reader.problems:
        # A layout that serves every stage lacks the same package in each of them.
        raise UserError(list(dict.fromkeys(reader.problems)))
    from lmgraft.known import hidden  # which reads recipes itself

    found = tuple(stage for stage in stages if stage is not None)
    recipe = Recipe(
        name=name,
        stages=found,
        seed=cfg.seed,
        device=cfg.device,
        precision=cfg.precision,
        run_dir=nodes.path(cfg, "run.dir"),
        store_dir=nodes.path(cfg, "store.dir"),
        trackers=tuple(trackers),
        resolved=nodes.resolved(cfg),
        notes=(*reader.notes, *hidden(found)),
        given=reader.given,
    )
    # A part that serves several stages says the same of each of them.
    unfit = list(dict.fromkeys(fitting.problems(recipe)))
    if unfit:
        raise UserError(unfit)
    return recipe
