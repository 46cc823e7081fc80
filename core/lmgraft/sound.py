"""Is a composed config sound? Its references lead somewhere, and typed nodes hold no keys beside their fields.

Asked once, before anything reads the config: OmegaConf resolves a reference only where it is read, so a dead one would
come up anywhere, in OmegaConf's words; and ``+stage.key=1`` puts a key into a typed node that nothing ever reads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.base import Container, Node
from omegaconf.errors import InterpolationToMissingValueError, InterpolationValidationError, OmegaConfBaseException

from lmgraft import nodes
from lmgraft.errors import Problem
from lmgraft.phrases import a, keys_of, no_key

__all__ = ["extra_keys", "loose_references"]

_TARGET = re.compile(r"\$\{\s*([A-Za-z_][\w.\[\]-]*)\s*\}")
_TYPES = {"IntegerNode": "whole number", "FloatNode": "number", "BooleanNode": "true or false", "StringNode": "text"}


def loose_references(cfg: DictConfig) -> list[Problem]:
    """A problem for each reference that leads nowhere; not for those that only lead to such a one."""
    leaves = dict(_leaves(cfg, ""))
    dead = {key: error for key, node in leaves.items() if (error := _error(node)) is not None}
    first = {key: error for key, error in dead.items() if not (_targets(leaves[key]) & dead.keys()) - {key}}
    # In a circle each leads to the other, and none is first.
    return [_problem(key, leaves, error) for key, error in (first or dead).items()]


def extra_keys(cfg: DictConfig) -> Iterator[Problem]:
    """Keys of typed nodes that are no fields."""
    for key, node in _nodes(cfg, ""):
        kind = nodes.class_of(node)
        if kind is None or not isinstance(node, DictConfig) or _is_special(node):
            continue
        names = [*keys_of(kind), "part", "kind"]
        for extra in map(str, node):
            if extra not in names:
                yield no_key(f"{key}.{extra}", "", keys_of(kind), kind)


def _nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """(key, node) of all that is below, Hydra's own node left out; references are not followed."""
    yield path, node
    if not isinstance(node, (DictConfig, ListConfig)) or _is_special(node):
        return
    content = node._content
    assert isinstance(content, (dict, list))
    items: Iterable[tuple[Any, Any]] = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, child in items:
        if not path and key == "hydra":
            continue
        here = f"{path}[{key}]" if isinstance(node, ListConfig) else f"{path}.{key}" if path else str(key)
        if isinstance(child, Node):
            yield from _nodes(child, here)


def _is_special(node: Container) -> bool:
    return node._is_none() or node._is_missing() or node._is_interpolation()


def _leaves(cfg: DictConfig, path: str) -> Iterator[tuple[str, Node]]:
    return ((key, node) for key, node in _nodes(cfg, path) if node._is_interpolation())


def _error(node: Node) -> Exception | None:
    try:
        node._dereference_node()
    except (OmegaConfBaseException, RecursionError) as error:
        return error
    return None


def _targets(node: Node) -> set[str]:
    return set(_TARGET.findall(str(node._value())))


def _problem(key: str, leaves: Mapping[str, Node], error: Exception) -> Problem:
    node = leaves[key]
    shown = str(node._value())
    text = str(error).splitlines()[0]
    variable = re.search(r"Environment variable '([^']*)' not found", text)
    dead = re.search(r"Interpolation key '([^']*)' not found", text)
    if variable:
        name = variable.group(1)
        remedy = f"export {name}=VALUE, or give a default: ${{oc.env:{name},VALUE}}"
        return Problem(f"{key}={shown} leads nowhere", f"the environment variable {name} is not set", remedy)
    if dead:
        return Problem(f"{key}={shown} leads nowhere", f"there is no key {dead.group(1)}", _close(dead.group(1), node))
    if isinstance(error, RecursionError) or "Recursive interpolation" in text:
        return Problem(f"{key}={shown} leads nowhere", "it refers to itself", f"{key}=VALUE")
    if isinstance(error, InterpolationToMissingValueError):
        names = ", ".join(sorted(_targets(node))) or shown
        return Problem(f"{key}={shown} has no value", f"{names} is not set", f"{names}=VALUE")
    if isinstance(error, InterpolationValidationError):
        choices = [member.name for member in getattr(node, "enum_type", None) or ()]
        if choices:
            names = ", ".join(sorted(_targets(node))) or shown
            remedy = f"{names}=NAME, one of {', '.join(choices)}"
            return Problem(f"{key}={shown} does not fit", f"{names} is none of what it takes", remedy)
        wanted = _TYPES.get(type(node).__name__, "")
        cause = f"what it refers to is no {wanted}" if wanted else "what it refers to is of another type"
        return Problem(f"{key}={shown} does not fit", cause, f"{key}=VALUE, or refer to {a(wanted or 'value')}")
    resolver = re.search(r"Unsupported interpolation type (\S+)", text)
    cause = f"there is no resolver {resolver.group(1)}" if resolver else re.sub(r"(?i)interpolation", "reference", text)
    return Problem(f"{key}={shown} cannot be resolved", cause, f"{key}=VALUE, or refer to another key: ${{a.b}}")


def _close(target: str, node: Node) -> str:
    """The key that may have been meant, of those that the config has."""
    root = node._get_root()
    known = [key for key, _ in _nodes(root, "") if key] if isinstance(root, DictConfig) else []
    match = difflib.get_close_matches(target, known, n=1, cutoff=0.6)
    return f"did you mean ${{{match[0]}}}?" if match else "refer to a key that is there, ${a.b}, or write the value out"
