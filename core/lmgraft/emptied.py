"""``KEY={}`` on the command line takes every entry of a mapping away.

Hydra merges a mapping into the one that is there, so that the empty one changes nothing, and entries that a recipe sets
could be taken away one by one only. An empty mapping can mean nothing else than none of them. Mappings of parts are
left alone: parts are chosen by their groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

__all__ = ["empty"]


def empty(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Empties the mappings of ``config`` that an override sets to ``{}``; what later ones set stays."""
    for place, override in enumerate(overrides):
        key = override.key_or_group
        if override.is_delete() or override.is_sweep_override() or override.value() != {}:
            continue
        if not _of_values(OmegaConf.select(config, key, throw_on_resolution_failure=False)):
            continue
        OmegaConf.update(config, key, {}, merge=False)
        for later in overrides[place + 1 :]:
            if not later.is_delete():
                _set_again(config, key, later.key_or_group, later.value())


def _set_again(config: DictConfig, emptied: str, key: str, value: Any) -> None:
    """Of a later override what it sets in the mapping that was emptied: one of its entries, itself, or a node that
    holds it."""
    if f"{emptied}.".startswith(f"{key}."):
        for name in emptied[len(key) + 1 :].split(".") if key != emptied else ():
            value = value.get(name) if isinstance(value, dict) else None
        key = emptied
        if not isinstance(value, dict):
            return
    if key == emptied or key.startswith(f"{emptied}."):
        OmegaConf.update(config, key, value, merge=True, force_add=True)


def _of_values(node: Any) -> bool:
    """Is it a mapping of settings: a typed one, whose entries are no parts and which is no node of settings itself."""
    if not isinstance(node, DictConfig):
        return False
    about = node._metadata
    return about.object_type is dict and about.element_type is not Any
