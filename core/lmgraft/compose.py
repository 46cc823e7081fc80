"""Hydra, kept behind one door: a recipe's name or path and overrides in, one composed config out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import version as hydra_version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from lmgraft import configs, paths, table
from lmgraft.errors import Problem, UserError
from lmgraft.leftovers import Loader

__all__ = ["RecipeRef", "compose", "loader", "parse", "resolve", "sweep_jobs"]


@dataclass(frozen=True, slots=True)
class RecipeRef:
    """A recipe as the user named it."""

    name: str
    file: Path
    installed: bool
    overrides: tuple[str, ...] = field(default=())
    typed: str = ""
    """The path as it was typed."""

    @property
    def given(self) -> str:
        """What to type after ``lmgraft run`` to mean it again."""
        return self.typed or self.name

    @property
    def config_name(self) -> str:
        return f"{configs.RECIPES}/{self.name}" if self.installed else configs.PRIMARY


def resolve(recipe: str) -> RecipeRef:
    """An installed recipe's name, or a path to a YAML file (anything with a slash or a YAML suffix)."""
    looks_like_path = recipe.endswith((".yaml", ".yml")) or "/" in recipe or "\\" in recipe
    if not looks_like_path and recipe in paths.recipe_files():
        clash = paths.recipe_clash(recipe)
        if clash:
            cause = f"{' and '.join(clash)} ship one of this name"
            raise UserError(Problem(f"the recipe {recipe!r} means two things", cause, f"pip uninstall {clash[-1]}"))
        return RecipeRef(recipe, paths.recipe_files()[recipe][0], installed=True)
    file = Path(recipe).expanduser()
    if file.is_file():
        # The stem names folders and stands in overrides: letters of any script, digits, spaces, dots and hyphens.
        word = re.sub(r"[^\w .-]+", "_", file.stem).strip(" .")
        return RecipeRef(word or "recipe", file.resolve(), installed=False, typed=recipe)
    names = sorted(paths.recipe_files())
    if looks_like_path:
        cause = "it is a folder" if file.is_dir() else f"no file is there, seen from {Path.cwd()}"
        raise UserError(
            Problem(
                f"there is no recipe file {recipe}", cause, "check the path; lmgraft recipes lists the installed ones"
            )
        )
    remedy = table.close(recipe, names) or "lmgraft recipes; a path to a file ends in .yaml"
    raise UserError(Problem(f"there is no recipe {recipe!r}", f"installed: {', '.join(names)}", remedy))


def loader(ref: RecipeRef) -> ConfigLoaderImpl:
    """A Hydra config loader whose search path holds installed names first and then, for a file, its folder."""
    from lmgraft.quiet import quiet_hydra

    quiet_hydra()
    hydra_version.setbase("1.3")
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    path.append("lmgraft", "lmgraft://installed")
    if not ref.installed:
        path.append("main", f"lmgraft-file://{ref.file}")
    path.append("schema", "structured://")
    return Loader(config_search_path=path)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides by Hydra's grammar, or a three-line error that names the one that does not parse."""
    from lmgraft import grammar

    return grammar.parse(overrides)


def compose(ref: RecipeRef, overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
    """The composed config, ``hydra`` node included; every Hydra error comes out in three lines."""
    from lmgraft import emptied, reword

    parsed = parse(overrides)
    with reword.errors(ref, overrides):
        config = loader(ref).load_configuration(
            config_name=ref.config_name,
            overrides=list(overrides),
            run_mode=RunMode.MULTIRUN if multirun else RunMode.RUN,
        )
        emptied.empty(config, parsed)
        return config


def sweep_jobs(overrides: Sequence[str], params: dict[str, Any] | None) -> list[list[str]] | None:
    """The overrides of every job of a basic sweep, in Hydra's order; None where a sweeper decides as it goes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    lines = [f"{key}={value}" for key, value in (params or {}).items()]
    named = {item.key_or_group for item in parse(overrides)}
    lines = [line for line in lines if parse([line])[0].key_or_group not in named]
    parsed = parse([*lines, *[line for line in overrides if not parse([line])[0].is_hydra_override()]])
    batches = BasicSweeper.split_arguments(parsed, None)
    return [list(job) for batch in batches for job in batch]
