"""Words that several messages share: articles, the keys of a typed node and its owner's name, "there is no key"."""

from __future__ import annotations

import dataclasses

from lmgraft import table
from lmgraft.errors import Problem
from lmgraft.registry import registry
from lmgraft.version import DOORS, SEAMS

__all__ = ["a", "keys_of", "no_key", "owner", "part_names", "parts_of"]


def a(word: str) -> str:
    """``a filter``, ``an optimizer``."""
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"


def part_names(seam: str) -> list[str]:
    """The installed parts of a seam, as a remedy lists them."""
    return [row.name for row in table.rows() if row.seam == seam]


def keys_of(config: type | None) -> list[str]:
    """The settings of a typed node; not what composing fills in."""
    if config is None or not dataclasses.is_dataclass(config):
        return []
    return [spec.name for spec in dataclasses.fields(config) if spec.name not in ("part", "kind")]


def _slots(config: type | None) -> dict[str, str]:
    """Slot -> seam."""
    if config is None or not dataclasses.is_dataclass(config):
        return {}
    return {spec.name: spec.metadata["slot"] for spec in dataclasses.fields(config) if "slot" in spec.metadata}


def parts_of(seam: str, config: type) -> list[str]:
    """The parts, of those loaded, whose settings are of this class."""
    return [name for name in part_names(seam) if registry().loaded(seam, name) is config]


def owner(config: type) -> str:
    """``optimizer adamw``: the part that a class of settings belongs to, as a user knows it."""
    for seam in (*SEAMS, *DOORS):
        names = parts_of(seam, config)
        if names:
            return f"{seam} {names[0]}"
    return config.__name__


def no_key(
    key: str, where: str, names: list[str], config: type | None = None, *, rest: str = "", otherwise: str = ""
) -> Problem:
    """``config`` is the typed node's class, ``rest`` what follows the key in the override."""
    parent, _, last = key.rpartition(".")
    close = table.close(last, names).removeprefix("did you mean ").removesuffix("?")
    seam = "" if rest else _slots(config).get(close, "")
    meant = f"{seam}@{parent}.{close}=NAME" if seam else f"{parent + '.' if parent else ''}{close}{rest}=VALUE"
    guess = f"did you mean {meant}?" if close else ""
    whose = owner(config) if config is not None and keys_of(config) else parent or "the recipe"
    cause = f"{whose} has no key {last!r}; it has {', '.join(names) or 'none'}"
    fact = f"there is no key {key}{f' ({where})' if where else ''}"
    return Problem(fact, cause, guess or otherwise or f"take {key} out")
