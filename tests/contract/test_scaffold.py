"""What ``lmgraft new`` writes, as a stranger uses it: a wheel is built, installed beside lmgraft's own wheel in a fresh
environment, held to its contract there, and its tests pass; they fail once its body is taken out."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lmgraft import scaffold
from lmgraft.version import DOORS, SEAMS
from third_party import build_wheel, lmgraft, pip_install

#: Two seams are shown in every run of the tests, quick or not; the others are in the slow set.
QUICK = ("filter", "objective")
ALL = [seam if seam in QUICK else pytest.param(seam, marks=pytest.mark.slow) for seam in (*SEAMS, *DOORS)]


def scaffolded(seam: str, folder: Path, python: Path) -> tuple[Path, str]:
    """The source folder of a new part of ``seam``, whose wheel is installed for ``python``; and the part's name."""
    name = f"my_{seam}"
    lmgraft("new", "plugin", seam, name, cwd=folder)
    source = folder / f"my-{seam.replace('_', '-')}"
    pip_install([build_wheel(source, folder / "dist")], python=python)
    return source, name


def run_pytest(python: Path, cwd: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    # Other packages' plugins take a second or two of each start.
    env |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
        "LMGRAFT_CACHE": str(cwd / "cache"),
        "PYTHONPATH": str(path) if path else "",
    }
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("seam", ALL)
def test_a_new_plugin_is_green_as_a_wheel_and_red_when_gutted(seam, fresh_python, tmp_path):
    source, name = scaffolded(seam, tmp_path, fresh_python)
    ruff = subprocess.run([sys.executable, "-m", "ruff", "check"], cwd=source, capture_output=True, text=True)
    assert ruff.returncode == 0, ruff.stdout

    checked = lmgraft("plugins", "check", source.name, "--json", cwd=tmp_path, python=str(fresh_python))
    states = {(row["part"], row["check"]): row["state"] for row in json.loads(checked.stdout)}
    assert states[name, "test_entry_point"] == states[name, "test_variants_in_the_wheel"] == "passed"
    assert states[name, "test_equal_builds"] == "passed", states

    # The wheel is what is imported: the tests run beside an empty folder, not in the source. What the suite says was
    # just seen; pytest runs it once more for two of the seams.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (source / "tests").rename(elsewhere / "tests")
    suite = suite_name(name)
    green = run_pytest(fresh_python, elsewhere, "tests", *([] if seam in QUICK else ["-k", f"not {suite}"]))
    assert green.returncode == 0, green.stdout + green.stderr

    gut(source / name / f"{seam}.py")
    own = run_pytest(fresh_python, elsewhere, "tests", "-x", "-k", f"not {suite}", path=source)
    assert own.returncode == 1, f"its own tests do not see that the body is gone\n{own.stdout}{own.stderr}"
    kit = run_pytest(fresh_python, elsewhere, "tests", "-x", "-k", suite, path=source)
    assert kit.returncode == 1, f"the suite does not see that the body is gone\n{kit.stdout}{kit.stderr}"


def test_a_package_of_recipes_is_green_as_a_wheel_and_red_without_its_recipe(fresh_python, tmp_path):
    lmgraft("new", "recipe", "my_model", "--package", cwd=tmp_path)
    source = tmp_path / "my-model"
    pip_install([build_wheel(source, tmp_path / "dist")], python=fresh_python)
    (source / "my_model").rename(tmp_path / "taken_away")
    green = run_pytest(fresh_python, source, "tests")
    assert green.returncode == 0, green.stdout + green.stderr
    here = {"cwd": tmp_path, "python": str(fresh_python)}
    assert "3 checks passed" in lmgraft("plugins", "check", "my-model", **here).stdout
    assert "my_model" in lmgraft("recipes", **here).stdout

    listed = {row["name"]: row for row in json.loads(lmgraft("recipes", "--json", **here).stdout)}
    assert listed["my_model"]["distribution"] == "my-model"
    find = "import importlib.util; print(importlib.util.find_spec('my_model').submodule_search_locations[0])"
    package = subprocess.run([fresh_python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    Path(package, "recipes", "my_model.yaml").unlink()
    said = lmgraft("plugins", "check", "my-model", code=2, **here).stdout
    assert "no YAML file is there" in said
    assert run_pytest(fresh_python, source, "tests").returncode == 1


def suite_name(part: str) -> str:
    return "Test" + "".join(word.capitalize() for word in part.split("_"))


def gut(file: Path) -> None:
    """Takes out what a module's functions do, constructors apart: each returns None."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
            node.body = [ast.Return(value=None)]
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("filtre", "x"), ["there is no seam 'filtre'", "did you mean filter?"]),
        (("filter", "My-Filter"), ["the name 'My-Filter' is refused", "lower-case"]),
        (("filter", "json"), ["the name 'json' is refused", "my_json"]),
        (("filter", "class"), ["the name 'class' is refused"]),
        (("filter", "my_name_filter"), ["the name 'my_name_filter' is refused", "_name_"]),
        (("filter", "length"), ["there is a filter named 'length' already", "lmgraft"]),
        (("filter", "pytest"), ["the name 'pytest' is taken"]),
    ],
)
def test_names_that_cannot_work_are_refused(arguments, words, tmp_path):
    said = lmgraft("new", "plugin", *arguments, cwd=tmp_path, code=2).stderr
    assert all(word in said for word in words), said
    assert "because:" in said
    assert "try:" in said
    assert not list(tmp_path.glob("*"))


def test_nothing_is_written_over(tmp_path):
    written = scaffold.plugin("data-source", "my-source", tmp_path)
    assert written.folder == tmp_path / "my-source"
    (tmp_path / "my-source" / "README.md").write_text("mine")
    said = lmgraft("new", "plugin", "data_source", "my_source", cwd=tmp_path, code=2).stderr
    assert "my-source is there already" in said
    assert (tmp_path / "my-source" / "README.md").read_text() == "mine"
    lmgraft("new", "plugin", "data_source", "my_source", "--force", cwd=tmp_path)
    assert (tmp_path / "my-source" / "README.md").read_text() != "mine"


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "afile").write_text("")
    said = lmgraft("new", "plugin", "filter", "my_filter", "--into", "afile", cwd=tmp_path, code=2).stderr
    assert "cannot be written" in said
    scaffold.plugin("filter", "my_part", tmp_path)
    other = lmgraft("new", "plugin", "schedule", "my_part", "--force", cwd=tmp_path, code=2).stderr
    assert "it holds a filter" in other
    assert (
        "there is a recipe named quickstart"
        in lmgraft("new", "recipe", "quickstart", "--package", cwd=tmp_path, code=2).stderr
    )
