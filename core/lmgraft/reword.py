"""Hydra's and OmegaConf's errors, said again in three lines: the key, why it is wrong, what to type."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft import table
from lmgraft.errors import Problem, UserError
from lmgraft.registry import registry
from lmgraft.version import DOORS, SEAMS

if TYPE_CHECKING:
    from lmgraft.compose import RecipeRef

__all__ = ["errors"]


@contextmanager
def errors(ref: RecipeRef, overrides: Sequence[str]) -> Iterator[None]:
    """Turns what composing raises into a :class:`UserError`; lmgraft's own errors pass."""
    from hydra.errors import HydraException

    try:
        yield
    except UserError:
        raise
    except HydraException as error:
        raise UserError(_hydra(error, ref, overrides)) from error
    except OmegaConfBaseException as error:
        raise UserError(_omegaconf(error, ref, overrides, "")) from error
    except AssertionError as error:
        # Hydra 1.3 dies on a bare assertion where `override` entries stand before others beside a list choice.
        cause = "an `override ...` entry stands before other entries, and the list chooses several parts at once"
        raise UserError(
            Problem(f"{ref.file}: defaults cannot be composed", cause, "move the `override ...` entries to the end")
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        cause = f"Hydra raised {type(error).__name__}: {error}"
        raise UserError(
            Problem(f"{ref.file} cannot be composed", cause, "check its defaults list; docs/recipes.md")
        ) from error


def _hydra(error: Exception, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    text = str(error)
    for cause in (error.__cause__, error.__context__):
        if isinstance(cause, OmegaConfBaseException):
            return _omegaconf(cause, ref, overrides, text)
    return _group(text, ref, overrides)


def _omegaconf(error: OmegaConfBaseException, ref: RecipeRef, overrides: Sequence[str], text: str) -> Problem:
    key = str(error.full_key or error.key or "")
    first = (str(error.msg or error) or text).splitlines()[0]
    config = error.object_type if isinstance(error.object_type, type) else None
    kind = type(error).__name__
    if "not in" in first or "ConfigAttributeError" in kind or "ConfigKeyError" in kind:
        return _unknown_key(key, config, ref, overrides)
    seam = _seam_at(key, ref)
    if seam:
        value = next((line.partition("=")[2] for line in overrides if line.lstrip("+").startswith(f"{key}=")), "NAME")
        cause = f"a {seam} belongs there, which is chosen by its group and not by a value"
        return Problem(f"{key}={value} is a plain value where a part belongs", cause, f"{seam}@{key}={value}")
    cause = re.sub(r"'\$\{[^}]*\}'", "", first)
    return Problem(
        f"{key} cannot take that value ({_origin(key, ref, overrides)})", cause, _type_remedy(key, error, config)
    )


def _unknown_key(key: str, config: type | None, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    parent, _, last = key.rpartition(".")
    names, owner = _expected(config)
    if not owner:
        plain = _without_overrides(ref)
        node = OmegaConf.select(plain, parent) if plain is not None and parent else plain
        names = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    cause = f"{owner or parent or 'the recipe'} has no key {last!r}; it has {', '.join(names) or 'none'}"
    match = difflib.get_close_matches(last, names, n=1, cutoff=0.6)
    rest = next((line.lstrip("+~").partition("=")[0].removeprefix(key) for line in overrides if key in line), "")
    guess = f"did you mean {parent + '.' if parent else ''}{match[0]}{rest}=VALUE?" if match else ""
    fact = f"there is no key {key} ({_origin(key, ref, overrides)})"
    return Problem(fact, cause, guess or f"lmgraft run {ref.name} --cfg job shows every key")


def _without_overrides(ref: RecipeRef) -> DictConfig | None:
    """The recipe as its files have it; None where that does not compose either."""
    from hydra.errors import HydraException
    from hydra.types import RunMode

    from lmgraft import compose

    try:
        return compose.loader(ref).load_configuration(ref.config_name, [], RunMode.RUN)
    except (HydraException, OmegaConfBaseException, UserError, AssertionError):
        return None


def _seam_at(key: str, ref: RecipeRef) -> str:
    """The seam of the parts that the recipe's defaults list puts at this key; empty where it puts none there."""
    plain = _without_overrides(ref)
    if plain is None:
        return ""
    choices = [str(choice).partition("@") for choice in plain.hydra.runtime.choices]
    found = next((seam for seam, _, package in choices if package == key and seam in (*SEAMS, *DOORS)), "")
    stage, _, slot = key.partition(".")
    kind = OmegaConf.get_type(plain[stage]) if stage in plain else None
    if not found and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        found = next((spec.metadata.get("slot", "") for spec in dataclasses.fields(kind) if spec.name == slot), "")
    return found


def _type_remedy(key: str, error: OmegaConfBaseException, config: type | None) -> str:
    wanted: Any = error.ref_type or None
    if config is not None and dataclasses.is_dataclass(config):
        spec = {item.name: item for item in dataclasses.fields(config)}.get(key.rpartition(".")[2])
        if spec is not None:
            wanted = spec.type
    name = getattr(wanted, "__name__", str(wanted)).replace("<class '", "").replace("'>", "")
    return f"give it a value of type {name}" if wanted is not None else f"{key}=VALUE of another type"


def _expected(config: type | None) -> tuple[list[str], str]:
    """(the keys of a typed node, its owner as a user knows it)."""
    if config is not None and dataclasses.is_dataclass(config):
        return [spec.name for spec in dataclasses.fields(config) if spec.name not in ("part", "kind")], _owner(config)
    return [], ""


def _owner(config: type) -> str:
    for seam in (*SEAMS, *DOORS):
        for row in table.rows():
            if row.seam == seam and registry().loaded(seam, row.name) is config:
                return f"{seam} {row.name}"
    return config.__name__


def _group(text: str, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    """Messages about groups and choices: Hydra's text without its search path."""
    text = re.split(r"\n\s*(?:Config )?[Ss]earch path", text)[0].strip()
    absent = re.search(r"Override (\S+)=.* config group '([^']+)' does not exist", text)
    if absent:
        return _no_match(absent.group(1), text, ref, overrides)
    missing = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if missing:
        return _missing_config(missing.group(1), text, ref, overrides)
    no_match = re.search(r"Could not override '([^']+)'", text)
    if no_match:
        return _no_match(no_match.group(1), text, ref, overrides)
    unset = re.search(r"You must specify '([^']+)'", text)
    if unset:
        group = unset.group(1)
        return Problem(
            f"{group} is not chosen",
            "the recipe leaves the choice to you",
            f"{group}=NAME, of {', '.join(_names(group))}",
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = " ".join(lines[1:]) or "Hydra refuses it"
    return Problem(
        lines[0] if lines else f"{ref.name} cannot be composed", cause, "lmgraft run RECIPE --help shows examples"
    )


def _missing_config(path: str, text: str, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    group, _, name = path.rpartition("/")
    named = [line for line in overrides if name and name in line]
    origin = "the command line" if named else str(ref.file)
    if group.split("/")[0] in (*SEAMS, *DOORS):
        seam, _, rest = path.partition("/")
        names = _names(seam)
        cause = f"installed: {', '.join(names) or 'none'}"
        remedy = table.close(rest, names) or f"pip install the distribution that brings {rest}; lmgraft plugins list"
        return Problem(f"there is no {seam} named {rest!r} ({origin})", cause, remedy)
    options = re.findall(r"^\t(\S+)", text, flags=re.MULTILINE)
    cause = "no installed config and no file beside the recipe has that name"
    if options:
        cause = f"the options are {', '.join(options)}"
    remedy = (
        table.close(name, options)
        or "check the spelling in the defaults list; conf/ and the recipe's folder are searched"
    )
    return Problem(f"there is no config {path} ({origin})", cause, remedy)


def _no_match(key: str, text: str, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    group, at, package = key.partition("@")
    if at or group in (*SEAMS, *DOORS):
        hint = table.close(group, (*SEAMS, *DOORS))
        if hint and group not in (*SEAMS, *DOORS):
            word = hint.removeprefix("did you mean ").removesuffix("?")
            return Problem(
                f"there is no group {group!r} (the command line)",
                "groups are the seams: " + ", ".join((*SEAMS, *DOORS)),
                f"did you mean {word}@{package}?",
            )
        cause = "the recipe's defaults list chooses nothing there"
        where = package or "WHERE"
        return Problem(
            f"{key} cannot be replaced (the command line)",
            cause,
            f"+{group}@{where}=NAME adds it; lmgraft run {ref.name} --info defaults lists the choices",
        )
    cause = lines[1] if len(lines) > 1 else "nothing of that name is there"
    return Problem(
        f"{key} cannot be set ({_origin(key, ref, overrides)})",
        cause.replace("To append to your config use", "to add a new key type"),
        f"lmgraft run {ref.name} --cfg job shows every key",
    )


def _names(group: str) -> list[str]:
    seam = group.partition("@")[0]
    return [row.name for row in table.rows() if row.seam == seam]


def _origin(key: str, ref: RecipeRef, overrides: Sequence[str]) -> str:
    """Where a key was set, as far as it can be told: the command line or the recipe's file."""
    bare = re.sub(r"\[.*", "", key)
    for line in overrides:
        named = line.lstrip("+~").partition("=")[0]
        if bare and (named == bare or named.startswith(f"{bare}.") or bare.startswith(f"{named}.")):
            return "the command line"
    return str(ref.file)
