"""What a part says of itself, checked before anything of it is used: its components, their settings, its hooks."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pluggy
from omegaconf import OmegaConf

from lmgraft import hooks, table
from lmgraft.component import Component, ComponentConfig, StageConfig
from lmgraft.table import Row
from lmgraft.version import SEAM_API, place, spoken

__all__ = ["Refused", "brief", "upgrade", "verify", "verify_tracker"]


class Refused(Exception):
    """Why a part cannot be used: cause and remedy; the fact is the part's name."""

    def __init__(self, state: str, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.state, self.cause, self.remedy = state, cause, remedy


def verify(row: Row, components: list[Any]) -> None:
    """Whether what the hook of a light module returned can be used; raises :class:`Refused`."""
    for component in components:
        if not isinstance(component, Component):
            raise Refused("broken", f"its hook returned {type(component).__name__}, not Component", upgrade(row))
        _verify_kinds(component, row)
        # First of all: what else is strange about it may be what the other version of the protocol asks for.
        _verify_api(component, row)
        _verify_config(component, row)
        _verify_requires(component, row)
    promised = {
        other.name
        for other in table.rows()
        if (other.seam, other.distribution, other.module) == (row.seam, row.distribution, row.module)
    }
    returned = sorted(component.name for component in components)
    if sorted(promised) != returned:
        said = ", ".join(returned) or "nothing"
        cause = f"its entry points promise {', '.join(sorted(promised))} and its hook returns {said}"
        raise Refused(
            "broken", cause, "make the two lists equal; reinstall, since entry points are written at install time"
        )


def verify_tracker(component: Component[Any], target: Any) -> None:
    """Whether pluggy knows the hooks of a tracker's class, and their arguments, without building it."""
    if not isinstance(target, type):  # a function that makes one: what it makes is seen when a run makes it
        return
    plugins, methods = hooks.manager(), hooks.stand_in(target)
    remedy = f"mend {component.target}"
    try:
        hooks.register(plugins, methods, component.name)
    except pluggy.PluginValidationError as error:
        raise Refused("broken", hooks.fault(error), remedy) from error
    if not hooks.heard(plugins, methods):
        raise Refused("broken", f"it implements none of {', '.join(hooks.HEARD)}, or marks none @hookimpl", remedy)


def _verify_kinds(component: Component[Any], row: Row) -> None:
    texts, numbers, lists = ("name", "target", "summary"), ("api", "revision"), ("requires", "variants")
    wrong = [name for name in texts if not isinstance(getattr(component, name), str)]
    wrong += [name for name in numbers if type(getattr(component, name)) is not int]
    for name in lists:
        value = getattr(component, name)
        if not isinstance(value, (tuple, list)) or not all(isinstance(entry, str) for entry in value):
            wrong.append(name)  # ("torch") is a string, and its letters would be taken for requirements
    if wrong:
        value = getattr(component, wrong[0])
        cause = f"{wrong[0]} of its Component is {value!r}, of the wrong type"
        raise Refused("broken", cause, f"write {wrong[0]} as lmgraft.component.Component declares it, in {row.module}")


def _verify_api(component: Component[Any], row: Row) -> None:
    oldest, newest = SEAM_API[row.seam]
    if oldest <= component.api <= newest:
        return
    cause = (
        f"{component.name} speaks version {component.api} of the {place(row.seam)}; this lmgraft speaks"
        f" {spoken(row.seam)}"
    )
    old = f"pip install --upgrade {row.distribution}: it is older than what this lmgraft still speaks"
    new = f"pip install --upgrade lmgraft: {row.distribution} is newer than it"
    raise Refused("incompatible", cause, old if component.api < oldest else new)


def _verify_config(component: Component[Any], row: Row) -> None:
    config: Any = component.config
    base = StageConfig if row.seam == "stage" else ComponentConfig
    if not (isinstance(config, type) and issubclass(config, base)):
        cause = f"the config of {component.name} does not derive from {base.__name__}"
        raise Refused("broken", cause, f"derive it in {row.module}, and decorate it with @dataclass")
    # is_dataclass() is true of every child of a dataclass; without the decorator its own fields would be lost.
    if "__dataclass_fields__" not in vars(config) and vars(config).get("__annotations__"):
        cause = f"the config of {component.name}, {config.__name__}, is no dataclass"
        raise Refused("broken", cause, f"decorate it with @dataclass in {row.module}")
    try:
        OmegaConf.structured(config)
    except Exception as error:  # its own words, and whatever a default_factory raises
        cause = f"the config of {component.name} cannot be composed: {brief(error)}"
        remedy = f"use plain values, Enum, list, dict and dataclasses as types of its fields in {row.module}"
        raise Refused("broken", cause, remedy) from error


def _verify_requires(component: Component[Any], row: Row) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in component.requires:
        try:
            Requirement(line)
        except InvalidRequirement as error:
            cause = f"{component.name} requires {line!r}, which is no valid requirement"
            raise Refused("broken", cause, f"write it as in PEP 508 in {row.module}") from error


def upgrade(row: Row) -> str:
    """For a user the next release may mend it; an author who works on it mends it himself."""
    if row.editable:
        return f"mend {row.module}; lmgraft plugins check {row.distribution} tells the rest"
    return f"pip install --upgrade {row.distribution}; details: lmgraft plugins why {row.distribution}"


def brief(error: BaseException, package: str = "") -> str:
    """The kind and the text of an error in one line; with a package, the line of its code that raised it."""
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return said + (_place(error, package) if package else "")


def _place(error: BaseException, package: str) -> str:
    own = table.folder(package.partition(".")[0])
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if own and Path(frame.filename).is_relative_to(own)]
    if not lines:
        return ""
    return f" ({Path(lines[-1].filename).relative_to(own.parent) if own else ''}, line {lines[-1].lineno})"
