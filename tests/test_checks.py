"""The checks that every change passes: style, types, the import contracts, and that light commands stay light."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent.parent.name for path in (ROOT / "plugins").glob("*/lmgraft_*/plugin.py"))
HEAVY = ("torch", "datasets", "transformers", "numpy", "pyarrow", "tokenizers")


def tool(name: str) -> str:
    """The tool of this environment, whether it is activated or not."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[test]'")
    return found


def run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)


def passes(*command: str) -> None:
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_ruff_check():
    passes(tool("ruff"), "check", "core", "plugins", "tests", "bench")


def test_ruff_format():
    passes(tool("ruff"), "format", "--check", "core", "plugins", "tests", "bench")


def test_mypy():
    passes(tool("mypy"))


def test_import_contracts():
    passes(tool("lint-imports"), "--no-cache")


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/lmgraft/paths.py", "import lmgraft_length", "core imports no plugin"),
        ("core/lmgraft/training/loop.py", "from lmgraft_decoders import model", "core imports no plugin"),
        ("plugins/length/lmgraft_length/length.py", "import lmgraft_files", "a plugin imports no sibling"),
        (
            "plugins/files/lmgraft_files/plugin.py",
            "def later():\n    from lmgraft_length import length\n    return length",
            "a plugin imports no sibling",
        ),
    ],
)
def test_the_import_contracts_break_when_they_are_broken(tmp_path, file, line, contract):
    for name in ("core", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "tests", "*.md"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / file, "a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    # The copies come before what is installed.
    places = os.pathsep.join(str(tmp_path / name) for name in ("core", *(f"plugins/{name}" for name in PLUGINS)))
    done = run(tool("lint-imports"), "--no-cache", cwd=tmp_path, PYTHONPATH=places)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert broken == [f"{contract} BROKEN"]


def heavy_after(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has imported after ``code``."""
    code += f"\nprint('HEAVY', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = run(sys.executable, "-c", f"import sys\n{code}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_probe_sees_a_heavy_import():
    assert heavy_after("import numpy") == ["numpy"]


def test_light_modules_import_nothing_heavy():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    parts = [names for group, names in points.items() if not group.endswith(".testing")]
    modules = sorted({module for names in parts for module in names.values()})
    assert len(modules) > len(PLUGINS)
    lines = ["import lmgraft, lmgraft.cli, lmgraft.registry, lmgraft.recipe, lmgraft.compose, lmgraft.configs"]
    assert heavy_after("\n".join([*lines, *(f"import {module}" for module in modules)])) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plugins", "list"],
        ["plugins", "show", "llama"],
        ["recipes"],
        ["run", "--help"],
        ["completion", "bash"],
        ["explain", "quickstart", "pretrain.optimizer.lr"],
        ["run", "quickstart", "--cfg", "job"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments):
    code = f"""
from lmgraft.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert not end.code, end.code
"""
    assert heavy_after(code) == []
