"""Writes packages to start from: a plugin for any seam or door, and a package of recipes.

What is written is complete: it builds a wheel, its tests pass, and they fail when its body is taken out.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass
from datetime import date
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lmgraft import paths, table, untrusted
from lmgraft.errors import Problem, UserError
from lmgraft.version import DOORS, SEAMS, installed

__all__ = ["Written", "plugin", "recipe", "recipe_package"]

#: seam -> how a recipe, or the quickstart, takes a part of it; ``{name}`` is the part.
USES = {
    "data_source": "lmgraft run quickstart 'data_source@corpus.sources=[{name}]' corpus.sources.{name}.path=FOLDER",
    "filter": "lmgraft run quickstart 'filter@corpus.filters=[{name}]'",
    "tokenizer": "lmgraft run quickstart tokenizer@tokenizer.tokenizer={name}",
    "architecture": "lmgraft run quickstart architecture@pretrain.architecture={name}",
    "parallelism": "lmgraft run quickstart parallelism={name}",
    "objective": "lmgraft run quickstart objective@pretrain.objective={name}",
    "evaluator": "lmgraft run quickstart 'evaluator@evaluate.evaluators=[perplexity,{name}]'",
    "initializer": "lmgraft run quickstart initializer@pretrain.initializer={name}",
    "adapter": "lmgraft run solar +adapter@sft.adapter={name}",
    "optimizer": "lmgraft run quickstart optimizer@pretrain.optimizer={name}",
    "schedule": "lmgraft run quickstart schedule@pretrain.schedule={name}",
    "merge": "lmgraft merge {name} MODEL... OUT",
    "lifecycle": "lmgraft run quickstart '+lifecycle=[{name}]'",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what to type next."""

    folder: Path
    files: tuple[Path, ...]
    next: tuple[str, ...]


def plugin(seam: str, name: str, into: Path, *, force: bool = False) -> Written:
    """A pip package with one part behind ``seam``, in ``into``/DISTRIBUTION."""
    seam = _seam(seam)
    words = _words(name, seam, f"lmgraft new plugin {seam} my_{seam}", force=force)
    root = _templates() / "plugin"
    own, common = root / seam, root / "common"
    values = {**words, "seam": seam, "use": USES.get(seam, "").format(name=words["name"])}
    variant = _render(own / "variant.yaml.j2", values)
    values["variant"] = _variant(variant)
    values["about"] = _render(own / "about.md.j2", values).strip()
    package, part = words["package"], words["name"]
    contents = {
        **_common(common, values),
        f"{package}/__init__.py": "",
        f"{package}/plugin.py": _render(own / "plugin.py.j2", values),
        f"{package}/{seam}.py": _render(own / "part.py.j2", values),
        f"{package}/conformance.py": _render(own / "conformance.py.j2", values),
        f"{package}/conf/{seam}/{part}/{values['variant']}.yaml": variant,
        f"tests/test_{part}.py": _render(own / "test_part.py.j2", values),
    }
    folder = into / words["distribution"]
    others = [other for other in (*SEAMS, *DOORS) if other != seam and (folder / package / f"{other}.py").exists()]
    if others:  # its files would stay, and ship in the wheel
        cause = f"it holds a {others[0]}, whose files would stay beside the {seam}'s"
        raise UserError(Problem(f"{folder} is there already", cause, f"another name, or remove {folder}"))
    steps = [f"cd {folder}", "pip install -e '.[test]'", "pytest", f"lmgraft plugins check {words['distribution']}"]
    return Written(folder, _write(folder, contents, force=force), (*steps, *filter(None, [values["use"]])))


def recipe_package(name: str, into: Path, *, force: bool = False) -> Written:
    """A pip package that ships a recipe, in ``into``/DISTRIBUTION."""
    words = _words(name, "recipe", "lmgraft new recipe my_model --package", force=force)
    if words["name"] in paths.recipe_files():
        cause = f"{paths.recipe_files()[words['name']][1]} ships it, and a name must mean one thing"
        remedy = f"another name, such as my_{words['name']}"
        raise UserError(Problem(f"there is a recipe named {words['name']} already", cause, remedy))
    values = {**words, "seam": "recipes", "use": f"lmgraft run {words['name']} data.path=FOLDER_OR_FILES"}
    own = _templates() / "recipe_package"
    values["about"] = _render(own / "about.md.j2", values).strip()
    package, part = words["package"], words["name"]
    contents = {
        **_common(_templates() / "plugin" / "common", values),
        f"{package}/__init__.py": "",
        f"{package}/recipes/{part}.yaml": _recipe(part, file=False),
        f"tests/test_{part}.py": _render(own / "test_recipe.py.j2", values),
    }
    folder = into / words["distribution"]
    steps = [f"cd {folder}", "pip install -e '.[test]'", "pytest", f"lmgraft run {part} --dry-run"]
    return Written(folder, _write(folder, contents, force=force), tuple(steps))


def recipe(name: str, *, force: bool = False) -> Path:
    """One YAML file, a complete small recipe with every part named and commented."""
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", Path(stem).name):
        cause = "a name begins with a letter and holds letters, digits, - and _"
        raise UserError(Problem(f"the recipe name {name!r} is refused", cause, "lmgraft new recipe my_model"))
    file = Path(f"{stem}.yaml")
    if file.exists() and not force:
        remedy = f"another name, or lmgraft new recipe {name} --force"
        raise UserError(Problem(f"{file} is there already", "it is not written over", remedy))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_recipe(Path(stem).name, file=True), encoding="utf-8")
    return file


# --- names ----------------------------------------------------------------------------------------------------------


def _seam(given: str) -> str:
    seam, names = given.replace("-", "_"), (*SEAMS, *DOORS)
    if seam not in names:
        remedy = table.close(seam, names) or "lmgraft new plugin filter my_filter"
        raise UserError(Problem(f"there is no seam {given!r}", f"the seams are {', '.join(names)}", remedy))
    return seam


def _words(given: str, seam: str, example: str, *, force: bool) -> dict[str, str]:
    name = given.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        cause = "a part's name is its package's too: lower-case letters, digits and single _, a letter first"
        raise UserError(Problem(f"the name {given!r} is refused", cause, example))
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name in ("lmgraft", "tests", "hydra_plugins"):
        cause = "Python, or this framework, has a word or a module of that name, and the package would hide it"
        raise UserError(Problem(f"the name {given!r} is refused", cause, f"another one, such as my_{name}"))
    if not untrusted.is_group_path(name):
        cause = "Hydra acts on _global_, _group_, _here_ and _name_ wherever they stand"
        raise UserError(Problem(f"the name {given!r} is refused", cause, example))
    if not force:
        _refuse_taken(name, seam)
    return {
        "name": name,
        "package": name,
        "distribution": name.replace("_", "-"),
        "class_name": "".join(word.capitalize() for word in name.split("_")),
    }


def _refuse_taken(name: str, seam: str) -> None:
    taken = table.select(seam, name)
    if taken:
        cause = f"{taken[0].distribution} {taken[0].version} brings it, and a name must mean one thing"
        raise UserError(Problem(f"there is a {seam} named {name!r} already", cause, f"another name, such as my_{name}"))
    if importlib.util.find_spec(name) is not None:
        cause = "a package of that name is installed, and one of the two would hide the other"
        raise UserError(Problem(f"the name {name!r} is taken", cause, f"another one, such as my_{name}, or --force"))


# --- files ----------------------------------------------------------------------------------------------------------


def _templates() -> Traversable:
    return resources.files("lmgraft") / "templates"


def _common(folder: Traversable, values: dict[str, Any]) -> dict[str, str]:
    places = {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        "LICENSE": "LICENSE.j2",
        ".gitignore": "gitignore.j2",
        ".github/workflows/test.yml": "test.yml.j2",
    }
    more = {**values, "cap": _cap(), "year": date.today().year}
    return {place: _render(folder / template, more) for place, template in places.items()}


def _cap() -> str:
    """The versions that this lmgraft's contract holds for: up to the next minor one, as long as the major is 0."""
    from packaging.version import Version

    now = Version(installed())
    upper = f"0.{now.minor + 1}" if now.major == 0 else str(now.major + 1)
    return f">={now.major}.{now.minor},<{upper}"


def _render(template: Traversable, values: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    # GitHub's workflow files use double braces of their own; theirs are written {{ "{{" }} in the template.
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)


def _variant(text: str) -> str:
    found = re.match(r"# variant: ([a-z0-9_]+)", text)
    assert found, "a template of a variant names it in its first line"
    return found[1]


def _recipe(name: str, *, file: bool) -> str:
    text = (_templates() / "recipe.yaml").read_text(encoding="utf-8").replace("{{ name }}", name)
    return text if file else text.replace(f"{name}.yaml", name)


def _write(folder: Path, contents: dict[str, str], *, force: bool) -> tuple[Path, ...]:
    if folder.is_dir() and any(folder.iterdir()) and not force:
        cause = "it is not empty, and nothing in it is written over"
        raise UserError(Problem(f"{folder} is there already", cause, "another name, --into FOLDER, or --force"))
    try:
        for place, text in contents.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text, encoding="utf-8")
    except OSError as error:
        cause = f"{error.strerror}: {error.filename}"
        raise UserError(Problem(f"{folder} cannot be written", cause, "--into a folder of yours")) from error
    return tuple(folder / place for place in contents)
