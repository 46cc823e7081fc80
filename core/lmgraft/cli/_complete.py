"""Completion of recipes and overrides from names and YAML alone: neither Hydra nor any plugin is imported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lmgraft import paths, table

__all__ = ["overrides", "recipes"]


def recipes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in paths.recipe_files() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def overrides(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``group@where=choice`` and the keys that the recipe's file sets."""
    recipe = ctx.params.get("recipe")
    defaults, keys = _words(str(recipe)) if recipe else ([], [])
    group, equals, begun = incomplete.partition("=")
    if equals:
        seam = group.partition("@")[0]
        names = [row.name for row in table.rows() if row.seam == seam]
        return [CompletionItem(f"{group}={name}") for name in names if name.startswith(begun)]
    return [CompletionItem(f"{word}=") for word in [*keys, *defaults] if word.startswith(incomplete)]


def _words(recipe: str) -> tuple[list[str], list[str]]:
    import yaml

    file = paths.recipe_files()[recipe][0] if recipe in paths.recipe_files() else Path(recipe)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return [], []
    if not isinstance(content, dict):
        return [], []
    groups = [key for entry in content.pop("defaults", None) or [] if isinstance(entry, dict) for key in entry]
    return groups, list(islice(_leaves(content, "", 0), _MOST))


#: Keys that are offered, and levels that are looked into: aliases can unfold a small file into billions of nodes.
_MOST, _DEEPEST = 500, 8


def _leaves(node: Any, path: str, depth: int) -> Iterator[str]:
    if not isinstance(node, dict) or depth > _DEEPEST:
        if path:
            yield path
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key), depth + 1)
