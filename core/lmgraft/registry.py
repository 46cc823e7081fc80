"""The guarded registry: imports one light module at a time, checks what it says, rolls back on failure.

pluggy's own ``load_setuptools_entrypoints`` imports everything and lets the first broken plugin take down the tool;
here a broken part is a state, and an error only for the recipe that selects it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy
from omegaconf import OmegaConf

from lmgraft import hookspecs, table
from lmgraft.component import Component, ComponentConfig, StageConfig
from lmgraft.errors import Problem, UserError
from lmgraft.table import Row
from lmgraft.version import SEAM_API

__all__ = ["Installed", "Registry", "build", "hook_fault", "package_hash", "registry", "requirements"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Installed:
    """A component together with where it comes from."""

    row: Row
    component: Component[Any]


class _Refused(Exception):
    """Why a part cannot be used: cause and remedy; the fact is the part's name."""

    def __init__(self, state: str, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.state, self.cause, self.remedy = state, cause, remedy


class Registry:
    """Loads parts by seam and name. One for a process: :func:`registry`."""

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager("lmgraft")
        self._plugins.add_hookspecs(hookspecs)
        self._loaded: dict[tuple[str, str], Installed] = {}

    def get(self, seam: str, name: str, where: str = "") -> Installed:
        """The part, or a :class:`UserError` that says what is wrong with it; ``where`` is the key that selects it."""
        if (seam, name) not in self._loaded:
            row = _only_row(seam, name, where)
            try:
                self._load(row)
            except _Refused as refused:
                origin = f"{row.distribution} {row.version} ({row.module})"
                fact = f"{_at(where)}{seam} {name!r} of {origin} cannot be used"
                raise UserError(Problem(fact, refused.cause, refused.remedy)) from refused
        return self._loaded[seam, name]

    def loaded(self, seam: str, name: str) -> type[ComponentConfig] | None:
        """The config of a part that this process has loaded already; imports nothing."""
        found = self._loaded.get((seam, name))
        return found.component.config if found else None

    def state(self, row: Row) -> tuple[str, str, str]:
        """(state, cause, remedy) of a row after trying it, for ``plugins why``; never raises."""
        if row.state in ("incompatible", "broken"):
            return row.state, row.reason, _metadata_remedy(row)
        try:
            self._load(row)
        except _Refused as refused:
            return refused.state, refused.cause, refused.remedy
        component = self._loaded[row.seam, row.name].component
        missing = _missing(component)
        if missing:
            return "broken", f"it needs {', '.join(missing)}: not installed, or not in that version", _pip(missing)
        try:
            _target(component)
        except _Refused as refused:
            return refused.state, refused.cause, refused.remedy
        return "ok", "", ""

    def _load(self, row: Row) -> None:
        if (row.seam, row.name) in self._loaded:
            return
        if row.state in ("incompatible", "broken"):
            raise _Refused(row.state, row.reason, _metadata_remedy(row))
        place = (row.seam, row.distribution, row.module)
        own = {other.name: other for other in table.rows() if (other.seam, other.distribution, other.module) == place}
        for component in self._components(row):
            # One module may offer several parts; a name that clashes with another distribution's stays unusable.
            if own[component.name].state == "unchecked":
                self._loaded[row.seam, component.name] = Installed(own[component.name], component)

    def _components(self, row: Row) -> list[Component[Any]]:
        module = _import(row)
        fresh = not self._plugins.is_registered(module)
        try:
            if fresh:
                self._plugins.register(module, name=f"{row.distribution}:{row.module}")
                self._plugins.check_pending()
            components: list[Any] = self._ask(module, row)
            _verify(row, components)
        except pluggy.PluginValidationError as error:
            self._roll_back(module, fresh)
            raise _Refused("broken", hook_fault(error), f"mend the hook in {row.module}") from error
        except BaseException:
            self._roll_back(module, fresh)
            raise
        return components

    def _roll_back(self, module: ModuleType, fresh: bool) -> None:
        if fresh and self._plugins.is_registered(module):
            self._plugins.unregister(module)

    def _ask(self, module: ModuleType, row: Row) -> list[Component[Any]]:
        others = [plugin for plugin in self._plugins.get_plugins() if plugin is not module]
        hook = self._plugins.subset_hook_caller(f"lmgraft_{row.seam}", remove_plugins=others)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                answers = hook()
                # Asked for here, under guard: a hook may be a generator, or return what is no list.
                components = [component for answer in answers for component in answer]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too
            raise _Refused("broken", f"its hook raised {_brief(error)}", _upgrade(row)) from error
        if not answers:
            cause = f"{row.module} has no @hookimpl function lmgraft_{row.seam} that returns a list"
            raise _Refused("broken", cause, f"define lmgraft_{row.seam}() in {row.module}, marked @hookimpl")
        return components


@lru_cache(maxsize=1)
def registry() -> Registry:
    return Registry()


def build(component: Component[T], config: ComponentConfig) -> T:
    """Imports a component's target and calls it with its config. Works in any process."""
    missing = _missing(component)
    if missing:
        raise UserError(
            Problem(
                f"{component.name} needs {', '.join(missing)}",
                "it is not installed, or not in that version",
                _pip(missing),
            )
        )
    try:
        target = _target(component)
    except _Refused as refused:
        fact = f"{component.name}: its implementation {component.target} cannot be used"
        raise UserError(Problem(fact, refused.cause, refused.remedy)) from refused
    part: T = target(config)
    return part


def _target(component: Component[Any]) -> Any:
    """The class behind a component's target."""
    module, _, attribute = component.target.partition(":")
    remedy = "reinstall what it needs, or tell the author; lmgraft plugins why DISTRIBUTION tries it again"
    try:
        return getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an implementation may raise anything at import, as a light module may
        raise _Refused("broken", f"importing {component.target} raised {_brief(error)}", remedy) from error


def requirements(component: Component[Any], where: str) -> list[Problem]:
    """What a selected component requires and the environment lacks; found before any work."""
    missing = _missing(component)
    if not missing:
        return []
    cause = "not installed, or not in that version"
    return [Problem(f"{where}: {component.name} needs {', '.join(missing)}", cause, _pip(missing))]


@lru_cache(maxsize=256)
def package_hash(package: str) -> str:
    """sha256 over the source files of a top-level package: what the action key holds of a part's code."""
    import importlib.util

    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError(
            Problem(f"the package {package} is gone", "it was found a moment ago", f"pip install {package}")
        )
    digest = hashlib.sha256()
    roots = [Path(place) for place in spec.submodule_search_locations or ()] or [Path(str(spec.origin))]
    for root in roots:
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for path in files:
            if "__pycache__" in path.parts or path.suffix in (".pyc", ".pyo"):
                continue
            name = path.relative_to(root).as_posix() if path != root else path.name
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _only_row(seam: str, name: str, where: str) -> Row:
    found = table.select(seam, name)
    if len(found) == 1:
        return found[0]
    fact = f"{_at(where)}there is no {seam} named {name!r}"
    if not found:
        names = [row.name for row in table.rows() if row.seam == seam]
        elsewhere = [other for other in table.seams_of(name) if other != seam]
        hint = f"; {name} is a {elsewhere[0]}" if elsewhere else ""
        cause = f"installed: {', '.join(names) or 'none'}{hint}"
        remedy = table.close(name, names) or f"pip install the distribution that brings {name}; lmgraft plugins list"
        raise UserError(Problem(fact, cause, remedy))
    names = [f"{row.distribution} {row.version}" for row in found]
    raise UserError(
        Problem(
            f"{_at(where)}{seam} {name!r} is provided by {' and by '.join(names)}",
            "a name must mean one thing; two distributions promise this one",
            f"pip uninstall {found[-1].distribution} (or the other one)",
        )
    )


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _import(row: Row) -> ModuleType:
    try:
        # stdout holds a command's result (`--cfg job`): what a plugin prints as it is imported does not belong there.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(row.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything at import, SystemExit too
        raise _Refused("broken", f"importing {row.module} raised {_brief(error)}", _upgrade(row)) from error


def _verify(row: Row, components: list[Any]) -> None:
    for component in components:
        if not isinstance(component, Component):
            raise _Refused("broken", f"its hook returned {type(component).__name__}, not Component", _upgrade(row))
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
        raise _Refused(
            "broken", cause, "make the two lists equal; reinstall, since entry points are written at install time"
        )
    for component in components:
        oldest, newest = SEAM_API[row.seam]
        if not oldest <= component.api <= newest:
            ours = f"{oldest}" if oldest == newest else f"{oldest} to {newest}"
            cause = (
                f"{component.name} speaks version {component.api} of the {row.seam} seam; this lmgraft speaks {ours}"
            )
            raise _Refused("incompatible", cause, f"pip install --upgrade {row.distribution} lmgraft")


def _verify_config(component: Component[Any], row: Row) -> None:
    config: Any = component.config
    base = StageConfig if row.seam == "stage" else ComponentConfig
    if not (isinstance(config, type) and issubclass(config, base)):
        cause = f"the config of {component.name} does not derive from {base.__name__}"
        raise _Refused("broken", cause, f"derive it in {row.module}, and decorate it with @dataclass")
    # is_dataclass() is true of every child of a dataclass; without the decorator its own fields would be lost.
    if "__dataclass_fields__" not in vars(config) and vars(config).get("__annotations__"):
        cause = f"the config of {component.name}, {config.__name__}, is no dataclass"
        raise _Refused("broken", cause, f"decorate it with @dataclass in {row.module}")
    try:
        OmegaConf.structured(config)
    except Exception as error:  # its own words, and whatever a default_factory raises
        cause = f"the config of {component.name} cannot be composed: {_brief(error)}"
        remedy = f"use plain values, Enum, list, dict and dataclasses as types of its fields in {row.module}"
        raise _Refused("broken", cause, remedy) from error


def _verify_requires(component: Component[Any], row: Row) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in component.requires:
        try:
            Requirement(line)
        except InvalidRequirement as error:
            cause = f"{component.name} requires {line!r}, which is no valid requirement"
            raise _Refused("broken", cause, f"write it as in PEP 508 in {row.module}") from error


def hook_fault(error: pluggy.PluginValidationError) -> str:
    """What is wrong with a hook, without pluggy's object addresses: its name, or its arguments."""
    text = " ".join(str(error).split())
    unknown = re.match(r"unknown hook '(\w+)'", text)
    if not unknown:
        return text
    hint = table.close(unknown[1], [name for name in vars(hookspecs) if name.startswith("lmgraft_")])
    return f"there is no hook {unknown[1]}" + (f"; {hint}" if hint else "")


def _missing(component: Component[Any]) -> list[str]:
    return [line for line in component.requires if not _satisfied(line)]


def _satisfied(line: str) -> bool:
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _pip(missing: list[str]) -> str:
    return "pip install " + " ".join(f"'{line}'" if re.search(r"[<>=!~\[; ]", line) else line for line in missing)


def _metadata_remedy(row: Row) -> str:
    if row.state == "incompatible":
        return f"pip install --upgrade {row.distribution}, or the lmgraft that it wants"
    if "also provided" in row.reason:
        return f"pip uninstall {row.distribution} (or the other one)"
    return f"pip install --force-reinstall {row.distribution}"


def _upgrade(row: Row) -> str:
    return f"pip install --upgrade {row.distribution}; details: lmgraft plugins why {row.distribution}"


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
