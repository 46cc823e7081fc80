"""One part's settings by the way that a recipe's take: through Hydra, typed, with the part's own check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lmgraft import compose, nodes, sound
from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.version import MANY

__all__ = ["NODE", "compose_part"]

#: Where the part stands in the recipe of one part.
NODE = "part"


def compose_part(seam: str, name: str, settings: Mapping[str, Any], folder: Path, variant: str = "") -> ComponentConfig:
    """The settings of the part ``name`` with ``settings`` beside its defaults; raises :class:`UserError`.

    A recipe of this one part is written to ``folder`` and composed, so what passes here passes in a recipe.
    """
    many = seam in MANY
    choice = f"{name}/{variant}" if variant else name
    values = {key: _plain(value) for key, value in settings.items()}
    recipe = {
        "defaults": [{f"{seam}@{NODE}": [choice] if many else choice}, "_self_"],
        NODE: {name: values} if many else values,
    }
    file = folder / "one_part.yaml"
    OmegaConf.save(OmegaConf.create(recipe), file)
    cfg = compose.compose(compose.resolve(str(file)), ())
    problems = sound.loose_references(cfg) or list(sound.extra_keys(cfg))
    if problems:
        raise UserError(problems)
    node = cfg[NODE][name] if many else cfg[NODE]
    config = _typed(node, seam, choice)
    beside = [str(key) for key in cfg[NODE] if key != name] if many else []
    if beside:
        cause = f"parts of {seam} stand under their own name, and {', '.join(beside)} stands beside it"
        raise UserError(Problem(f"{choice} cannot be composed", cause, f"{name}: {{{beside[0]}: VALUE}}"))
    problems = [_problem(item, name) for item in _checked(config)]
    if problems:
        raise UserError(problems)
    return config


def _checked(config: ComponentConfig) -> list[Problem | str]:
    found: Any = config.check()
    if not isinstance(found, Iterable):
        fact = f"{type(config).__name__}.check() returns {found!r}"
        cause = "it yields every problem of the values, or nothing"
        raise UserError(Problem(fact, cause, "write `yield` before each problem instead of `return`"))
    return list(found)


def _typed(node: DictConfig, seam: str, choice: str) -> ComponentConfig:
    kind, part = nodes.class_of(node), f"{seam} {choice}"
    if kind is None:
        name = choice.partition("/")[0]
        cause = "it holds values and chooses no part"
        raise UserError(Problem(f"{part} is no variant", cause, f"defaults: [/{seam}/{name}@_here_, _self_]"))
    unset = sorted(key.rpartition(f"{NODE}.")[2] for key in OmegaConf.missing_keys(node))
    if unset:
        cause = f"{', '.join(unset)} {'has' if len(unset) == 1 else 'have'} no default"
        raise UserError(Problem(f"{part} cannot be composed", cause, "give a value in the suite's `settings`"))
    return nodes.settings(node, kind)


def _problem(item: Problem | str, name: str) -> Problem:
    if isinstance(item, Problem):
        return item
    return Problem(f"the settings of {name} do not pass its own check", item, "mend the default, or the suite's value")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value
