"""``lmgraft explain``: a value, everything that set it, and the plugin that owns it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli import _complete

if TYPE_CHECKING:
    from lmgraft.compose import RecipeRef

__all__ = ["explain"]


@click.command(
    epilog="""\b
Examples:
  lmgraft explain quickstart pretrain.optimizer.lr
  lmgraft explain quickstart corpus.filters
  lmgraft explain quickstart pretrain.steps pretrain.steps=500"""
)
@click.argument("recipe", shell_complete=_complete.recipes)
@click.argument("key")
@click.argument("overrides", nargs=-1, shell_complete=_complete.overrides)
def explain(recipe: str, key: str, overrides: tuple[str, ...]) -> int:
    """Prints the value of KEY in RECIPE, the files and overrides that set it, and the plugin that owns it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from lmgraft import compose
    from lmgraft.errors import Problem, UserError

    ref = compose.resolve(recipe)
    cfg = compose.compose(ref, overrides)
    try:
        value = OmegaConf.select(cfg, key, default=_ABSENT)
    except OmegaConfBaseException as error:
        raise UserError(
            Problem(
                f"{key} cannot be read", str(error).splitlines()[0], f"lmgraft run {recipe} --cfg job shows every key"
            )
        ) from error
    if value is _ABSENT:
        raise UserError(_unknown(cfg, key, recipe))
    shown = OmegaConf.to_yaml(value, resolve=True).rstrip() if OmegaConf.is_config(value) else _plain(value)
    print(f"{key}:\n  " + shown.replace("\n", "\n  ") if "\n" in shown else f"{key} = {shown}")
    trail = list(_trail(ref, list(overrides), key))
    print("set by:")
    for number, (origin, said) in enumerate(trail):
        print(f"  {origin}: {said}" + ("   <- this one counts" if number == len(trail) - 1 and len(trail) > 1 else ""))
    for line in _owner(cfg, key):
        print(line)
    return 0


_ABSENT = object()


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value)) if value is not None else "null"


def _unknown(cfg: Any, key: str, recipe: str) -> Any:
    from omegaconf import OmegaConf

    from lmgraft import table
    from lmgraft.errors import Problem

    parent, _, last = key.rpartition(".")
    node = cfg
    while parent and not OmegaConf.is_dict(node := OmegaConf.select(cfg, parent, default=None)):
        parent, _, last = parent.rpartition(".")
        node = cfg
    names = [str(name) for name in node if name != "hydra"] if OmegaConf.is_dict(node) else []
    hint = table.close(last, names)
    cause = f"{parent or 'the recipe'} has {', '.join(names)}"
    prefix = f"{parent}." if parent else ""
    remedy = (
        hint.replace("did you mean ", f"did you mean {prefix}")
        if hint
        else f"lmgraft run {recipe} --cfg job shows every key"
    )
    return Problem(f"there is no key {key}", cause, remedy)


def _trail(ref: RecipeRef, overrides: list[str], key: str) -> Iterator[tuple[str, str]]:
    """(origin, value) of each config that sets the key, in the order of composition; the last one counts."""
    from hydra._internal.config_repository import CachingConfigRepository
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from lmgraft import compose

    loader = compose.loader(ref)
    repository = CachingConfigRepository(loader.repository)
    listed = loader.compute_defaults_list(config_name=ref.config_name, overrides=overrides, run_mode=RunMode.RUN)
    for entry in listed.defaults:
        if entry.config_path is None or entry.config_path.startswith("hydra/"):
            continue
        loaded = loader._load_single_config(default=entry, repo=repository)
        container = OmegaConf.to_container(loaded.config, resolve=False, enum_to_str=True)
        found = _descend(container, key.split("."))
        if found is not _ABSENT:
            yield _origin(loaded.path), _said(found)
    for override in compose.parse(overrides):
        name = override.key_or_group
        if override.package is None and (name == key or key.startswith(f"{name}.") or name.startswith(f"{key}.")):
            yield "the command line", override.input_line or ""
        elif override.package is not None and key.startswith(override.package):
            yield "the command line", f"{override.input_line} (the part itself)"


def _said(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return f"{{{', '.join(str(key) for key in value)}}}"
    return json.dumps(value, default=str)


def _descend(node: Any, path: list[str]) -> Any:
    for step in path:
        if not isinstance(node, dict) or step not in node:
            return _ABSENT
        node = node[step]
    return node


def _origin(path: str) -> str:
    """A part's settings come from its config class: those are defaults."""
    return path if path.endswith((".yaml", ".yml")) else f"default of {path.replace('/', ' ')}"


def _owner(cfg: Any, key: str) -> Iterator[str]:
    """The part whose settings hold the key: the nearest typed node above it."""
    from omegaconf import OmegaConf

    from lmgraft.cli._docs import field_docs
    from lmgraft.registry import registry
    from lmgraft.table import rows

    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        node = OmegaConf.select(cfg, ".".join(parts[:depth]))
        kind = OmegaConf.get_type(node) if OmegaConf.is_dict(node) else None
        # Parts may share a config class: the node's own word for what it is decides.
        names = {str(node.get(key)) for key in ("part", "kind")} if OmegaConf.is_dict(node) and kind is not dict else ()
        owner = next(
            (row for row in rows() if row.name in names and registry().loaded(row.seam, row.name) is kind), None
        )
        if owner is None:
            continue
        yield f"owned by: {owner.seam} {owner.name} of {owner.distribution} {owner.version}"
        yield f"more:     lmgraft plugins show {owner.name}"
        doc = field_docs(kind).get(parts[depth]) if depth < len(parts) and isinstance(kind, type) else None
        if doc:
            yield f"meaning:  {doc}"
        return
