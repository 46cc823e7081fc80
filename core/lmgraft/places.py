"""What a recipe's own files say, asked where composing has failed: the places of its parts, its values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft import configs
from lmgraft.errors import UserError
from lmgraft.version import DOORS, SEAMS

if TYPE_CHECKING:
    from lmgraft.compose import RecipeRef

__all__ = ["entries", "origin", "places", "plain", "seam_at", "value_in_file", "value_typed"]


def plain(ref: RecipeRef) -> DictConfig | None:
    """The recipe as its files have it; None where that does not compose either."""
    from hydra.errors import HydraException
    from hydra.types import RunMode

    from lmgraft import compose

    try:
        return compose.loader(ref).load_configuration(ref.config_name, [], RunMode.RUN)
    except (HydraException, OmegaConfBaseException, UserError, AssertionError, ValueError):
        return None


def places(ref: RecipeRef) -> dict[str, str]:
    """Place -> seam, of every part that the recipe chooses; from its file alone where it does not compose."""
    cfg = plain(ref)
    found = {}
    for entry in entries(ref) if cfg is None else map(str, cfg.hydra.runtime.choices):
        group, at, package = entry.rpartition(" ")[2].removeprefix("/").partition("@")
        if group in (*SEAMS, *DOORS):
            found[package if at else group] = group
    return found


def entries(ref: RecipeRef) -> list[str]:
    """``GROUP@WHERE`` of each choice in the recipe's defaults list."""
    defaults = _content(ref).get("defaults")
    return [
        str(key)
        for entry in (defaults if isinstance(defaults, list) else [])
        if isinstance(entry, Mapping)
        for key in entry
    ]


def _content(ref: RecipeRef) -> Mapping[str, Any]:
    try:
        content, _ = configs.read_yaml(ref.file)
    except UserError:
        return {}
    return content if isinstance(content, Mapping) else {}


def value_in_file(ref: RecipeRef, place: str) -> Any:
    """What the recipe's file sets at a key; None where it sets nothing."""
    node: Any = _content(ref)
    for word in place.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def seam_at(key: str, ref: RecipeRef) -> str:
    """The seam of the part, or parts, that belong at a key; empty where none does."""
    found = places(ref).get(key, "")
    cfg = plain(ref) if not found else None
    stage, _, slot = key.partition(".")
    kind = OmegaConf.get_type(cfg._get_node(stage)) if cfg is not None and stage in cfg else None
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return next((spec.metadata.get("slot", "") for spec in dataclasses.fields(kind) if spec.name == slot), "")
    return found


def value_typed(key: str, overrides: Sequence[str]) -> str | None:
    """What the command line sets a key to, as typed."""
    typed = [line.partition("=")[2] for line in overrides if line.lstrip("+").startswith(f"{key}=")]
    return typed[-1] if typed else None


def origin(key: str, ref: RecipeRef, overrides: Sequence[str]) -> str:
    """Where a key was set, as far as it can be told: the command line or the recipe's file."""
    bare = re.sub(r"\[.*", "", key)
    for line in overrides:
        named = line.lstrip("+~").partition("=")[0]
        if bare and (named == bare or named.startswith(f"{bare}.") or bare.startswith(f"{named}.")):
            return "the command line"
    return str(ref.file)
