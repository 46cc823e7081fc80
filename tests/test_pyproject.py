"""pyproject.toml, the folders of plugins/, what the hooks return and what is installed say the same."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import lmgraft
import pytest
from lmgraft import hookspecs, paths
from lmgraft.registry import registry
from lmgraft.stages import plugin as stages
from lmgraft.table import PREFIX, rows
from lmgraft.version import DOORS, SEAMS

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / f"lmgraft_{path.name}").is_dir())
PACKAGES = [f"lmgraft_{name}" for name in FOLDERS]
POINTS = {
    (group.removeprefix(PREFIX), name): module
    for group, names in PYPROJECT["project"]["entry-points"].items()
    for name, module in names.items()
}
SUITES = {name: module for (group, name), module in POINTS.items() if group == "testing"}
PARTS = {(group, name): module for (group, name), module in POINTS.items() if group != "testing"}
REINSTALL = "entry points are written at install time: pip install -e . again"


def test_every_folder_of_plugins_is_a_plugin():
    strays = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()} - set(FOLDERS)
    assert not {name for name in strays if list((ROOT / "plugins" / name).rglob("*.py"))}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_plugin_has_the_shape_that_third_parties_ship(name):
    folder = ROOT / "plugins" / name
    package = folder / f"lmgraft_{name}"
    assert (package / "__init__.py").read_bytes() == b"", "an __init__ with code would make the light module heavy"
    assert (package / "plugin.py").is_file()
    assert (folder / "README.md").is_file(), f"plugins/{name}/README.md is missing"
    assert list((folder / "tests").glob("test_*.py")), f"plugins/{name}/tests has no test"
    assert [path.name for path in folder.glob("*/plugin.py")] == ["plugin.py"]


def test_the_lists_of_the_build_hold_core_and_every_plugin():
    hatch = PYPROJECT["tool"]["hatch"]["build"]
    assert hatch["dev-mode-dirs"] == ["core", *(f"plugins/{name}" for name in FOLDERS)]
    assert hatch["targets"]["wheel"]["packages"] == [
        "core/hydra_plugins",
        "core/lmgraft",
        *(f"plugins/{name}/lmgraft_{name}" for name in FOLDERS),
    ]
    assert set(hatch["targets"]["wheel"]["force-include"]) == {"conf", "recipes"}


def test_the_import_contracts_hold_every_plugin():
    linter = PYPROJECT["tool"]["importlinter"]
    assert linter["root_packages"] == ["lmgraft", *PACKAGES]
    forbidden, independence = linter["contracts"]
    assert (forbidden["type"], forbidden["source_modules"]) == ("forbidden", ["lmgraft"])
    assert forbidden["forbidden_modules"] == PACKAGES
    assert (independence["type"], independence["modules"]) == ("independence", PACKAGES)
    assert not {key for contract in (forbidden, independence) for key in contract} & {"ignore_imports"}


def test_the_entry_points_name_known_seams_and_the_light_modules_of_all_plugins():
    assert {seam for seam, _ in PARTS} <= {*SEAMS, *DOORS}
    assert set(PARTS.values()) == {"lmgraft.stages.plugin", *(f"{package}.plugin" for package in PACKAGES)}


def test_the_suites_that_come_along_are_named():
    there = {name for name in FOLDERS if (ROOT / f"plugins/{name}/lmgraft_{name}/conformance.py").is_file()}
    assert {**{name: f"lmgraft_{name}.conformance" for name in there}, "stages": "lmgraft.stages.conformance"} == SUITES


@pytest.mark.parametrize("module", sorted(set(PARTS.values())))
def test_the_names_are_those_that_the_hooks_return(module):
    promised = {seam: {name for (at, name), value in PARTS.items() if (at, value) == (seam, module)} for seam in SEAMS}
    promised |= {seam: {name for (at, name), value in PARTS.items() if (at, value) == (seam, module)} for seam in DOORS}
    light = import_module(module)
    returned = {
        seam: {component.name for component in getattr(light, f"lmgraft_{seam}", list)()} for seam in (*SEAMS, *DOORS)
    }
    assert returned == promised


def test_what_is_installed_is_what_pyproject_says():
    installed = {
        (point.group.removeprefix(PREFIX), point.name): point.value
        for point in metadata.distribution("lmgraft").entry_points
        if point.group.startswith(PREFIX)
    }
    assert installed == POINTS, REINSTALL
    assert metadata.version("lmgraft") == PYPROJECT["project"]["version"], REINSTALL


def test_every_part_is_found_good_and_says_what_it_does():
    for row in rows():
        if row.distribution != "lmgraft":
            continue
        assert registry().state(row) == ("ok", "", ""), f"{row.seam} {row.name}"
        component = registry().get(row.seam, row.name).component
        assert 0 < len(component.summary) <= 72, f"{row.seam} {row.name}: {component.summary}"
        top = component.target.partition(":")[0].partition(".")[0]
        assert top == row.module.partition(".")[0], "the action key holds the hash of the target's package"


def test_every_seam_and_door_has_a_hook_and_a_page():
    hooks = {name.removeprefix("lmgraft_") for name in vars(hookspecs) if name.startswith("lmgraft_")}
    assert hooks == {*SEAMS, *DOORS, *hookspecs.LIFECYCLE}
    modules = {path.stem for path in (ROOT / "core/lmgraft/seams").glob("*.py")} - {"__init__"}
    assert modules == {*SEAMS, *DOORS}
    guide = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert not [name for name in hooks if f"lmgraft_{name}" not in guide]


def test_data_comes_from_the_checkout_where_there_is_one():
    """An editable install leaves copies of conf/ and recipes/ in site-packages, and those go stale."""
    direct = json.loads(metadata.distribution("lmgraft").read_text("direct_url.json") or "{}")
    if not direct.get("dir_info", {}).get("editable"):
        assert paths.conf_dir() == Path(lmgraft.__file__).parent / "_data" / "conf"
        return
    assert paths.conf_dir() == ROOT / "conf"
    assert {file.parent for file, owner in paths.recipe_files().values() if owner == "lmgraft"} == {ROOT / "recipes"}
    assert {file.stem for file in (ROOT / "recipes").glob("*.yaml")} <= set(paths.recipe_files())


def test_the_kinds_of_stage_come_in_through_the_door():
    """Core's own; a plugin may bring others."""
    assert {component.name for component in stages.lmgraft_stage()} == {
        name for (seam, name), module in POINTS.items() if seam == "stage" and module == stages.__name__
    }
