"""Questions about nodes of a composed config: their class, their values, what refers to what."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem, UserError

__all__ = ["class_of", "inside_slot", "part_name", "path", "references", "resolved", "settings"]


def path(cfg: DictConfig, key: str) -> Path | None:
    value = OmegaConf.select(cfg, key)
    if OmegaConf.is_config(value) or value == "":
        raise UserError(Problem(f"{key} is no path", "it names one folder", f"{key}=PATH; null takes the usual place"))
    return Path(str(value)).expanduser() if value is not None else None


def resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]), resolve=True, enum_to_str=True
        )
    except OmegaConfBaseException as error:
        cause = str(error).splitlines()[0]
        raise UserError(
            Problem(f"{error.full_key} cannot be resolved", cause, "check the ${reference} there")
        ) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def class_of(node: Any) -> type | None:
    """The dataclass behind a typed node; None for plain ones."""
    if not isinstance(node, DictConfig):
        return None
    kind = OmegaConf.get_type(node)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def inside_slot(key: str, kind: type) -> bool:
    first = key.split(".")[0].split("[")[0]
    return any(spec.name == first and "slot" in spec.metadata for spec in dataclasses.fields(kind))


def settings(node: DictConfig, kind: type) -> ComponentConfig:
    """``OmegaConf.to_object`` of one node alone, its slots emptied: those parts are objects of their own."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(kind):
        if "slot" in spec.metadata:
            child = node._get_node(spec.name)
            # check() may want to know which parts are there, by name; a slot holds the names only.
            many = spec.metadata["many"]
            values[spec.name] = dict.fromkeys(child) if many and isinstance(child, DictConfig) else part_name(child)
            continue
        value = node[spec.name]
        values[spec.name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    config: ComponentConfig = kind(**values)
    return config


def part_name(child: Any) -> str | None:
    return str(child.part) if isinstance(child, DictConfig) and "part" in child else None


def references(cfg: DictConfig) -> set[str]:
    """Root keys that some ``${key...}`` refers to."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            items: Iterable[Any] = node.values()
        elif isinstance(node, list):
            items = node
        else:
            if isinstance(node, str) and "${" in node:
                found.update(re.findall(r"\$\{\s*([A-Za-z_]\w*)", node))
            return
        for item in items:
            walk(item)

    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    walk(OmegaConf.to_container(plain, resolve=False))
    return found
