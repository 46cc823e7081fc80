"""``lmgraft new recipe``: a recipe to start from, checked as written."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

__all__ = ["new"]


@click.group(epilog="\b\nExamples:\n  lmgraft new recipe my_model\n  lmgraft run my_model.yaml --dry-run")
def new() -> None:
    """Scaffolds."""


@new.command("recipe")
@click.argument("name")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def recipe(name: str, force: bool) -> int:
    """Writes NAME.yaml, a complete small recipe with every part named and commented."""
    from lmgraft.errors import Problem, UserError

    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", Path(stem).name):
        cause = "a name begins with a letter and holds letters, digits, - and _"
        raise UserError(Problem(f"the recipe name {name!r} is refused", cause, "lmgraft new recipe my_model"))
    file = Path(f"{stem}.yaml")
    if file.exists() and not force:
        raise UserError(
            Problem(
                f"{file} is there already",
                "it is not written over",
                f"another name, or lmgraft new recipe {name} --force",
            )
        )
    template = resources.files("lmgraft").joinpath("templates", "recipe.yaml").read_text(encoding="utf-8")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(template.replace("{{ name }}", Path(stem).name), encoding="utf-8")
    print(f"{file}\n\nNext:\n  lmgraft run {file} --dry-run\n  lmgraft run {file} data.path=FOLDER_OR_FILES")
    return 0
