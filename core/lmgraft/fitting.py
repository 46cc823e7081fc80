"""Whether the parts of a recipe that was read fit their values and one another: their own checks, needs and offers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem
from lmgraft.keyed import by_key

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode

__all__ = ["problems"]

#: need -> what to do about it, where that is known.
_REMEDIES = {"split:validation": "hold some text out: CORPUS.validation_bytes=BYTES, with CORPUS the corpus stage"}


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Every problem of every part; a part that serves several stages says the same of each of them."""
    for stage in recipe.stages:
        yield from _own(stage.name, stage.config, recipe, stage.name)
        for part in stage.parts:
            yield from (by_key(item, part.seam, part.path) for item in _own(part.path, part.config, recipe, stage.name))
        yield from _needs(recipe, stage)
    for part in recipe.trackers:
        yield from _own(part.path, part.config, recipe, "")


def _own(where: str, config: ComponentConfig, recipe: Recipe, stage: str) -> Iterator[Problem]:
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if isinstance(value, float) and not math.isfinite(value):
            key = f"{where}.{spec.name}"
            yield Problem(f"{key} is {value}", "settings are finite numbers", f"{key}=VALUE")
    found: Iterator[Problem | str]
    for found in (config.check(), config.check_recipe(recipe, stage)):
        try:
            yield from [_as_problem(item, where, config, recipe) for item in found]
        except Exception as error:  # a plugin's check is not ours: its own fault must not hide the rest
            cause = f"its check raised {type(error).__name__}: {error}"
            yield Problem(f"{where} ({config.part or where}) cannot be checked", cause, "tell the plugin's author")


def _as_problem(item: Problem | str, where: str, config: ComponentConfig, recipe: Recipe) -> Problem:
    if isinstance(item, Problem):
        return item
    word = item.split()[0].strip(",:") if item else ""
    key = f"{where}.{word}" if word.split(".")[0] in {spec.name for spec in dataclasses.fields(config)} else where
    remedy = f"{key}=VALUE; lmgraft explain {recipe.given or recipe.name} {key} tells where it comes from"
    return Problem(f"{key} does not fit", item, remedy)


def _needs(recipe: Recipe, stage: StageNode) -> Iterator[Problem]:
    near = [stage, *recipe.upstream(stage.name)]
    offered: set[str] = set()
    for other in near:
        offered |= other.config.provides()
        idle = other.config.idle({part.slot: part.config for part in other.parts})
        for part in other.parts:
            offered |= part.config.provides() if part.slot not in idle else frozenset()
    for where, config in [(stage.name, stage.config), *((part.path, part.config) for part in stage.parts)]:
        for need in sorted(config.needs() - offered):
            places, said = ", ".join(other.name for other in near), ", ".join(sorted(offered)) or "nothing"
            named = config.part or where
            cause = f"the parts of {places} offer {said}"
            remedy = _REMEDIES.get(need, f"choose parts that go together; lmgraft plugins show {named}")
            yield Problem(f"{where}: {named} needs {need}", cause, remedy)
