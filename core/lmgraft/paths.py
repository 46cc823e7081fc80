"""Where conf/ and recipes/ lie: in the checkout if there is one, otherwise in the installed wheel."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path

from lmgraft import table

__all__ = ["cache_dir", "conf_dir", "recipe_clash", "recipe_files"]


def _data(name: str) -> Path:
    # An editable install leaves stale copies under _data in site-packages, so the checkout comes first.
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    return Path(__file__).resolve().parent / "_data" / name


def conf_dir() -> Path:
    return _data("conf")


@lru_cache(maxsize=1)
def recipe_files() -> dict[str, tuple[Path, str]]:
    """Installed recipes: name -> (file, distribution). Third parties ship theirs under ``lmgraft.recipes``.

    The entry point's value is a package; its folder's YAML files are the recipes. Nothing is imported.
    """
    found = {path.stem: (path, "lmgraft") for path in sorted(_data("recipes").glob("*.yaml"))}
    for distribution, package in table.recipe_packages():
        top, _, inner = package.partition(".")
        place = table.folder(top)
        if place is None:
            continue
        folder = place.joinpath(*inner.split(".") if inner else ())
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in found:
                _CLASHES.setdefault(path.stem, [found[path.stem][1]]).append(distribution)
            found.setdefault(path.stem, (path, distribution))
    return found


#: Recipe -> the distributions that ship one of this name.
_CLASHES: dict[str, list[str]] = {}


def recipe_clash(name: str) -> list[str]:
    """The distributions that ship a recipe of this name, where there are several."""
    recipe_files()
    return _CLASHES.get(name, [])


def cache_dir() -> Path:
    """The user's cache folder for lmgraft: ``LMGRAFT_CACHE``, else the platform's own place."""
    named = os.environ.get("LMGRAFT_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lmgraft"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "lmgraft"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmgraft"
