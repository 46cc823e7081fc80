"""Where the interpreter keeps its .py files, found without importing any of them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Unit

__all__ = ["TOPICS", "installed_units", "stdlib_units", "topics_unit"]

#: The id of the unit that holds the documentation topics.
TOPICS = "topics"

#: What pip changes, and what the interpreter writes itself: never part of "the standard library".
FOREIGN = frozenset({"__pycache__", "dist-packages", "site-packages"})
#: ``test``, ``unittest/test``, ``lib2to3/tests``, ``idlelib/idle_test`` and their like.
TESTS = frozenset({"idle_test", "test", "tests"})


def stdlib_units(tests: bool) -> list[Unit]:
    """One unit for each .py file of the standard library; ids such as ``stdlib/json/decoder.py``."""
    skip = FOREIGN if tests else FOREIGN | TESTS
    topics = str(_topics_path())
    return [unit for unit in _python_files(stdlib(), "stdlib", skip) if unit.path != topics]


def topics_unit() -> Unit:
    """The documentation topics, as one unit.

    Raises UserError where the distribution's packager has split ``pydoc_data`` off.
    """
    path = _topics_path()
    try:
        size = path.stat().st_size
    except OSError:
        problem = Problem(
            f"python_docs: this interpreter ({sys.executable or 'python'}) has no documentation topics",
            f"{path} is missing: the packager left out pydoc_data",
            "install the full standard library (Debian: libpython3-stdlib), use an interpreter from python.org or uv, "
            "or choose another data source",
        )
        raise UserError(problem) from None
    return Unit(id=TOPICS, path=str(path), size=size)


def installed_units(name: str) -> list[Unit]:
    """The .py files of one installed package, by import name or else by distribution name.

    Ids are relative to where it is installed: ``installed/numpy/linalg/_linalg.py``. Only the top-level name is looked
    up, which imports nothing. Raises UserError where nothing of that name is installed.
    """
    units: dict[str, Unit] = {}
    for unit in _by_import_name(name) or _by_distribution(name):
        units.setdefault(unit.id, unit)  # as import does: the first folder of a namespace package wins
    if not units:
        problem = Problem(
            f"python_docs.installed: no Python files of {name!r} were found",
            f"{sys.executable or 'this interpreter'} has neither a package nor a distribution of that name with .py "
            "files outside its test folders",
            f"pip install {name}, or take {name} out of python_docs.installed",
        )
        raise UserError(problem)
    return list(units.values())


def stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _topics_path() -> Path:
    return stdlib() / "pydoc_data" / "topics.py"


def _by_import_name(name: str) -> list[Unit]:
    if "." in name:  # looking up a submodule would import its parent
        return []
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module in sys.modules that has no spec
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        origin = Path(spec.origin or "")
        return [_unit(origin, f"installed/{origin.name}")] if origin.suffix == ".py" else []
    skip = FOREIGN | TESTS
    folders = list(spec.submodule_search_locations)  # several for a namespace package
    return [unit for folder in folders for unit in _python_files(Path(folder), f"installed/{name}", skip)]


def _by_distribution(name: str) -> list[Unit]:
    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    skip = FOREIGN | TESTS | {".."}  # "..": scripts, which lie outside the packages
    chosen = [file for file in files if file.suffix == ".py" and not skip.intersection(file.parts[:-1])]
    located = [(Path(str(file.locate())), file.as_posix()) for file in chosen]
    return [_unit(path, f"installed/{relative}") for path, relative in located if path.is_file()]


def _unit(path: Path, name: str) -> Unit:
    return Unit(id=name, path=str(path), size=path.stat().st_size)


def _python_files(folder: Path, prefix: str, skip: frozenset[str]) -> Iterator[Unit]:
    """Every .py file below ``folder``, one stat a file; folders that are links are not followed (they may loop)."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py") and entry.is_file():
                yield Unit(id=f"{prefix}/{entry.name}", path=entry.path, size=entry.stat().st_size)
            elif entry.name not in skip and entry.is_dir(follow_symlinks=False):
                yield from _python_files(Path(entry.path), f"{prefix}/{entry.name}", skip)
