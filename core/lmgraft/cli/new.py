"""``lmgraft new``: a plugin's package, a recipe, or a package of recipes, complete as written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lmgraft.scaffold import Written

__all__ = ["new"]


@click.group(
    epilog="""\b
Examples:
  lmgraft new plugin filter no_shouting
  lmgraft new plugin objective my_dpo --into plugins/
  lmgraft new recipe my_model
  lmgraft new recipe my_model --package"""
)
def new() -> None:
    """Scaffolds."""


@new.command(
    "plugin",
    epilog="""\b
SEAM is one of
  data_source filter tokenizer architecture parallelism objective evaluator
or of the doors beside them
  initializer adapter merge exporter optimizer schedule teacher stage lifecycle

\b
Examples:
  lmgraft new plugin filter no_shouting
  lmgraft new plugin objective my_dpo --into plugins/""",
)
@click.argument("seam")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="The folder that gets the package's own.")
@click.option("--force", is_flag=True, help="Write over existing files.")
def plugin(seam: str, name: str, into: Path, force: bool) -> int:
    """Writes a pip package with one part: pyproject, light module, implementation, conf/, tests, README, CI."""
    from lmgraft import scaffold

    _tell(scaffold.plugin(seam, name, into, force=force))
    return 0


@new.command("recipe", epilog="\b\nExamples:\n  lmgraft new recipe my_model\n  lmgraft new recipe my_model --package")
@click.argument("name")
@click.option("--package", is_flag=True, help="Write a pip package that ships the recipe.")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="The folder that gets it.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def recipe(name: str, package: bool, into: Path, force: bool) -> int:
    """Writes NAME.yaml, a complete small recipe with every part named and commented."""
    from lmgraft import scaffold

    if package:
        _tell(scaffold.recipe_package(name, into, force=force))
        return 0
    file = scaffold.recipe(str(into / name), force=force)
    print(f"{file}\n\nNext:\n  lmgraft run {file} --dry-run\n  lmgraft run {file} data.path=FOLDER_OR_FILES")
    return 0


def _tell(written: Written) -> None:
    for file in written.files:
        print(file)
    print("\nNext:\n" + "\n".join(f"  {line}" for line in written.next))
