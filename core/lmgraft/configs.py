"""Where Hydra's configs come from: parts from metadata, recipes and conf/ from installed files, a recipe by its path.

No local file shadows an installed name: the installed catalogue is asked first, and a file given by path is reachable
under one reserved name only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lmgraft import leftovers, paths, table, untrusted
from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.version import DOORS, SEAMS

__all__ = ["PRIMARY", "Catalogue", "FolderCatalogue", "Found", "InstalledCatalogue", "read_yaml"]

#: The name under which a recipe given by path is the primary config.
PRIMARY = "__recipe__"
RECIPES = "recipes"
MAX_INCLUDED = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """One config: a file's content or a part's typed settings."""

    origin: str
    content: Any = None
    package: str | None = None
    part: tuple[str, str, type[ComponentConfig]] | None = None
    """(seam, name, settings)."""


class Catalogue(Protocol):
    """Paths are Hydra's: ``group/name`` without suffix, ``""`` is the root."""

    def is_group(self, path: str) -> bool: ...

    def is_config(self, path: str) -> bool: ...

    def children(self, path: str) -> tuple[set[str], set[str]]:
        """(groups, configs) directly below."""
        ...

    def load(self, path: str) -> Found | None: ...


class InstalledCatalogue:
    """Parts, the recipes and conf/ of every installed distribution, and the configs that plugins ship."""

    def is_group(self, path: str) -> bool:
        path = _from_recipe(path)
        if path in ("", RECIPES) or path in (*SEAMS, *DOORS):
            return True
        return any((root / path).is_dir() for root in _roots(path))

    def is_config(self, path: str) -> bool:
        path = _from_recipe(path)
        seam, _, name = path.partition("/")
        if table.select(seam, name):
            return True
        if seam == RECIPES:
            return name in paths.recipe_files()
        return self._file(path) is not None

    def children(self, path: str) -> tuple[set[str], set[str]]:
        path = _from_recipe(path)
        groups: set[str] = set()
        names = {row.name for row in table.rows() if row.seam == path}
        if path == "":
            groups = {RECIPES, *SEAMS, *DOORS}
        if path == RECIPES:
            names |= set(paths.recipe_files())
        for root in _roots(path):
            below = root / path
            if below.is_dir():
                groups |= {
                    item.name for item in below.iterdir() if item.is_dir() and not item.name.startswith(("_", "."))
                }
                names |= {item.stem for item in below.iterdir() if item.suffix in (".yaml", ".yml")}
        return groups, names

    def load(self, path: str) -> Found | None:
        path = _from_recipe(path)
        seam, _, name = path.partition("/")
        if table.select(seam, name):
            from lmgraft.registry import registry

            component = registry().get(seam, name).component
            return Found(origin=f"{seam}/{name}", part=(seam, name, component.config))
        if seam == RECIPES and name in paths.recipe_files():
            file, _ = paths.recipe_files()[name]
            content, _ = read_yaml(file)
            return Found(str(file), leftovers.without(_absolute(content), "_global_"), "_global_")
        file_found = self._file(path)
        if file_found is None:
            return None
        content, package = read_yaml(file_found)
        return Found(str(file_found), leftovers.without(content, package or "a group's own"), package)

    def _file(self, path: str) -> Path | None:
        if not untrusted.is_config_path(path):
            return None
        for root in _roots(path):
            for suffix in (".yaml", ".yml"):
                file = root / f"{path}{suffix}"
                if file.is_file():
                    return file
        return None


def _from_recipe(path: str) -> str:
    """What ``+SEAM@WHERE=NAME`` adds to an installed recipe, Hydra looks for below the recipe's own group."""
    group, _, rest = path.partition("/")
    return rest if group == RECIPES and rest.split("/")[0] in (*SEAMS, *DOORS) else path


_INSTALLED = InstalledCatalogue()


class FolderCatalogue:
    """One recipe file, served as :data:`PRIMARY`, and the configs in its folder (``.yml`` works as ``.yaml`` does)."""

    def __init__(self, recipe: Path) -> None:
        self._recipe = recipe
        self._root = recipe.parent.resolve()
        self._included: dict[Path, list[Path]] = {}

    def is_group(self, path: str) -> bool:
        if path == "":
            return True
        plain = untrusted.is_group_path(path) and not _reserved(path)
        return plain and self._inside(self._root / path, directory=True)

    def is_config(self, path: str) -> bool:
        return path == PRIMARY or self._file(path) is not None

    def children(self, path: str) -> tuple[set[str], set[str]]:
        if not self.is_group(path):
            return set(), set()
        items = list((self._root / path).iterdir())
        groups = {item.name for item in items if untrusted.is_group_path(item.name) and item.is_dir()}
        stems = {item.stem for item in items if item.suffix in (".yaml", ".yml")}
        return groups, {stem for stem in stems if untrusted.is_config_path(stem)}

    def load(self, path: str) -> Found | None:
        file = self._recipe if path == PRIMARY else self._file(path)
        if file is None:
            return None
        content, package = read_yaml(file)
        group = "" if path == PRIMARY else path.rpartition("/")[0]
        local = [name for name in untrusted.included(content, group) if not _INSTALLED.is_config(name)]
        self._included[file] = [found for name in local if (found := self._file(name))]
        for start in (self._recipe, file):
            self._unfold(start, (), {})
        at_root = package or (None if path == PRIMARY else "a group's own")
        return Found(str(file), leftovers.without(content, at_root), package)

    def _unfold(self, file: Path, above: tuple[Path, ...], known: dict[Path, int]) -> int:
        """How many configs a file's defaults list unfolds into; Hydra would follow a circle, or go on for days."""
        if file in above:
            chain = " -> ".join(place.name for place in (*above[above.index(file) :], file))
            problem = Problem(f"{file} includes itself", chain, "take one of these entries out of its defaults list")
            raise UserError(problem)
        if file not in known:
            below = self._included.get(file, ())
            known[file] = 1 + sum(self._unfold(place, (*above, file), known) for place in below)
        if known[file] > MAX_INCLUDED:
            cause = f"its defaults list unfolds into more than {MAX_INCLUDED} configs"
            raise UserError(Problem(f"{file} is refused", cause, "include each config once"))
        return known[file]

    def _file(self, path: str) -> Path | None:
        if not untrusted.is_config_path(path) or _reserved(path):
            return None
        for suffix in (".yaml", ".yml"):
            file = self._root / f"{path}{suffix}"
            if self._inside(file, directory=False):
                return file
        return None

    def _inside(self, place: Path, *, directory: bool) -> bool:
        # resolve() follows links, so neither `..` nor a link leads out of the recipe's folder.
        real = place.resolve()
        if real != self._root and self._root not in real.parents:
            return False
        return real.is_dir() if directory else real.is_file()


def read_yaml(file: Path) -> tuple[Any, str | None]:
    """(content, package) of a YAML file, judged by :mod:`lmgraft.untrusted` before anything acts on it."""
    from hydra.plugins.config_source import ConfigSource

    text = _text(file)
    content = _parse(text, file)
    try:
        header = ConfigSource._get_header_dict(text[:512])
    except ValueError as error:
        raise UserError(
            Problem(f"{file}: its header cannot be read", str(error), "write `# @package NAME`, or take it out")
        ) from error
    problems = list(untrusted.judge(content, str(file), header))
    if problems:
        raise UserError(problems)
    return _with_self(content), header.get("package")


def _with_self(content: Any) -> Any:
    """A defaults list without ``_self_`` takes the file's own values last: Hydra does so too, and warns each time."""
    defaults = content.get("defaults") if isinstance(content, dict) else None
    if not isinstance(defaults, list) or "_self_" in defaults or all(map(_is_override, defaults)):
        return content
    return {**content, "defaults": [*defaults, "_self_"]}


def _is_override(entry: Any) -> bool:
    return isinstance(entry, dict) and "override" in str(next(iter(entry), "")).split()[:-1]


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > untrusted.MAX_BYTES:
            raise UserError(Problem(f"{file} is refused", "the file is over 1 MiB", "a recipe is a few kilobytes"))
        # Editors on Windows begin a file with a byte order mark, behind which a header would not be seen.
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(Problem(f"{file} cannot be read", str(error), "check the path and its permissions")) from error
    except UnicodeDecodeError as error:
        cause = f"it is not UTF-8: {error.reason} at byte {error.start}"
        raise UserError(Problem(f"{file} cannot be read", cause, "save the file as UTF-8")) from error


def _parse(text: str, file: Path) -> Any:
    import yaml
    from omegaconf._utils import get_yaml_loader

    # OmegaConf's loader is PyYAML's safe loader that also refuses a key given twice.
    try:
        loader = get_yaml_loader()(text)
        node = loader.get_single_node()
        problems = list(untrusted.weigh(node, str(file)))
        if problems:
            raise UserError(problems)
        return loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's own constructors raise what they like at `!!int x` or a number of a million digits.
        cause = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(Problem(f"{file} is no valid YAML", cause, "mend the line named above")) from error


def _reserved(path: str) -> bool:
    """Names that a local file never answers for: Hydra's own, at any depth, and the installed recipes."""
    folders = path.split("/")
    return "hydra" in folders or folders[0] == RECIPES


@lru_cache(maxsize=64)
def _roots(path: str) -> tuple[Path, ...]:
    """Folders of installed config files: conf/ first, then those of the plugins that have a part at this seam."""
    seam = path.split("/")[0]
    found = [paths.conf_dir()]
    for row in table.rows():
        if row.seam == seam:
            place = table.location(row)
            if place is not None and (place / "conf").is_dir() and place / "conf" not in found:
                found.append(place / "conf")
    return tuple(found)


def _absolute(content: Any) -> Any:
    """An installed recipe sits in the group ``recipes``, where Hydra would look for its groups below ``recipes/``."""
    if not isinstance(content, dict) or not isinstance(content.get("defaults"), list):
        return content
    return {**content, "defaults": [_rooted(entry) for entry in content["defaults"]]}


def _rooted(entry: Any) -> Any:
    if isinstance(entry, str):
        return entry if entry.startswith(("/", "_")) else f"/{entry}"
    if isinstance(entry, dict):
        return {_rooted_key(str(key)): value for key, value in entry.items()}
    return entry


def _rooted_key(key: str) -> str:
    *words, group = key.split()
    return " ".join([*words, group if group.startswith("/") else f"/{group}"])
