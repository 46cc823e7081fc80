"""Which modules and names of core a third party may build on: those that first-party plugins build on, and a few more.

The list is read from the plugins themselves. So a helper that a plugin begins to use is on the page, or the page is
stale.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

from generator.source import ROOT, module

__all__ = ["helpers"]

#: Told of in sections of their own, or, the conformance kit, by itself.
APART = ("lmgraft.seams", "lmgraft.component", "lmgraft.hookspecs", "lmgraft.testing")

#: What no first-party plugin happens to need, and others will: files of models and tokenizers, artifacts for stages.
MORE = {
    "lmgraft.errors": ("Problem", "UserError", "Fault", "Stopped"),
    "lmgraft.artifacts": ("Artifact",),
    "lmgraft.artifacts.corpus": ("documents", "texts", "count", "splits"),
    "lmgraft.artifacts.tokenizer": ("load", "SavedTokenizer", "verify"),
    "lmgraft.artifacts.checkpoint": ("Header", "Tensors", "headers", "tensors", "parameters", "verify", "write"),
    "lmgraft.artifacts.streaming": ("Piece",),
    "lmgraft.loading": ("architecture_for", "load", "load_tokenizer", "model_folder"),
    "lmgraft.recipe": ("PartUse",),
    "lmgraft.training.asks": ("compute",),
    "lmgraft.training.optimizer_state": ("load", "save"),
    "lmgraft.training.ranks": ("joined", "local_rank"),
    "lmgraft.training.weights": ("canonical", "export", "initialise", "load_into", "materialise"),
}


@lru_cache(maxsize=1)
def helpers() -> dict[str, tuple[str, ...]]:
    """Module -> its names that are to be documented, in the order of the module."""
    found: dict[str, set[str]] = {name: set(names) for name, names in MORE.items()}
    for path in sorted((ROOT / "plugins").glob("*/lmgraft_*/**/*.py")):
        for home, name in _used(path):
            if not home.startswith(APART):
                found.setdefault(home, set()).add(name)
    return {home: tuple(name for name in module(home).entries if name in found[home]) for home in sorted(found)}


def _used(path: Path) -> set[tuple[str, str]]:
    """(module, name) of everything of core that a file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[tuple[str, str]] = set()
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lmgraft":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _is_module(inner):
                    modules[alias.asname or alias.name] = inner
                else:
                    names.add((str(node.module), alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            home = modules[node.value.id]
            names.add((_home(home, node.attr), node.attr))
    return names


def _is_module(name: str) -> bool:
    path = ROOT / "core" / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _home(name: str, attribute: str) -> str:
    """The module that defines what ``name`` hands on: ``joining.joined`` is of ``ranks``."""
    if attribute in module(name).entries:
        return name
    path = ROOT / "core" / Path(*name.split(".")).with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and attribute in [alias.name for alias in node.names]:
            return str(node.module)
    return name
