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

from lmgraft import hooks, table
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.table import Row
from lmgraft.verifying import Refused, brief, upgrade, verify, verify_tracker

__all__ = ["Installed", "Registry", "build", "package_hash", "registry", "requirements"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Installed:
    """A component together with where it comes from."""

    row: Row
    component: Component[Any]


class Registry:
    """Loads parts by seam and name. One for a process: :func:`registry`."""

    def __init__(self) -> None:
        self._plugins = hooks.manager()
        self._loaded: dict[tuple[str, str], Installed] = {}

    def get(self, seam: str, name: str, where: str = "") -> Installed:
        """The part, or a :class:`UserError` that says what is wrong with it; ``where`` is the key that selects it."""
        if (seam, name) not in self._loaded:
            row = _only_row(seam, name, where)
            try:
                self._load(row)
            except Refused as refused:
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
            return row.state, row.reason, row.remedy
        try:
            self._load(row)
        except Refused as refused:
            return refused.state, refused.cause, refused.remedy
        component = self._loaded[row.seam, row.name].component
        missing = _missing(component)
        if missing:
            return "broken", f"it needs {', '.join(missing)}: not installed, or not in that version", _pip(missing)
        try:
            target = _target(component)
            if row.seam == "lifecycle":
                verify_tracker(component, target)
        except Refused as refused:
            return refused.state, refused.cause, refused.remedy
        return "ok", "", ""

    def notes(self, row: Row) -> list[str]:
        """What the author of a part whose state is ``ok`` should know: what it uses that will go, above all."""
        component = self._loaded[row.seam, row.name].component
        found = hooks.notes(sys.modules[row.module], component.api)
        target = _target(component)
        if row.seam == "lifecycle" and isinstance(target, type):
            found += hooks.notes(hooks.stand_in(target), component.api)
        return found

    def _load(self, row: Row) -> None:
        if (row.seam, row.name) in self._loaded:
            return
        if row.state in ("incompatible", "broken"):
            raise Refused(row.state, row.reason, row.remedy)
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
                hooks.register(self._plugins, module, f"{row.distribution}:{row.module}")
            components: list[Any] = self._ask(module, row)
            verify(row, components)
        except pluggy.PluginValidationError as error:
            self._roll_back(module, fresh)
            raise Refused("broken", hooks.fault(error), f"mend the hook in {row.module}") from error
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
                single = next((answer for answer in answers if isinstance(answer, Component)), None)
                components = [] if single else [component for answer in answers for component in answer]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too
            raise Refused("broken", f"its hook raised {brief(error, row.module)}", upgrade(row)) from error
        if single is not None:
            raise Refused("broken", "its hook returned a Component, not a list of them", "return [Component(...)]")
        if not answers:
            cause = f"{row.module} has no @hookimpl function lmgraft_{row.seam} that returns a list"
            raise Refused("broken", cause, f"define lmgraft_{row.seam}() in {row.module}, marked @hookimpl")
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
    except Refused as refused:
        fact = f"{component.name}: its implementation {component.target} cannot be used"
        raise UserError(Problem(fact, refused.cause, refused.remedy)) from refused
    part: T = target(config)
    return part


def _target(component: Component[Any]) -> Any:
    """The class behind a component's target."""
    module, _, attribute = component.target.partition(":")
    owners = [row.distribution for row in table.rows() if row.name == component.name]
    again = f"lmgraft plugins why {owners[0]} tries it again" if owners else "lmgraft plugins why tries it again"
    remedy = f"reinstall what it needs, or tell the author; {again}"
    try:
        found = importlib.import_module(module)
        if not attribute or not hasattr(found, attribute):
            names = [name for name in vars(found) if not name.startswith("_")]
            cause = f"{module} has no {attribute or 'name after the colon'}"
            raise Refused("broken", cause, table.close(attribute, names) or f"mend the target of {component.name}")
        return getattr(found, attribute)
    except Refused:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an implementation may raise anything at import, as a light module may
        raise Refused("broken", f"importing {component.target} raised {brief(error, module)}", remedy) from error


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
        raise Refused("broken", f"importing {row.module} raised {brief(error, row.module)}", upgrade(row)) from error


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
