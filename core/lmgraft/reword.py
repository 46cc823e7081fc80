"""What OmegaConf raises while a recipe is composed, said again in three lines: the key, why it is wrong, what to type.

Hydra's own errors, about groups and the defaults list, go on to :mod:`lmgraft.regroup`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft import places, regroup
from lmgraft.errors import Problem, UserError
from lmgraft.phrases import a, keys_of, no_key, owner, part_names
from lmgraft.version import several

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
        raise UserError(_omegaconf(error, ref, overrides)) from error
    except AssertionError as error:
        # Hydra 1.3 dies on a bare assertion where `override` entries stand before others beside a list choice.
        cause = "an `override ...` entry stands before other entries, and the list chooses several parts at once"
        raise UserError(
            Problem(f"{ref.file}: defaults cannot be composed", cause, "move the `override ...` entries to the end")
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        cause = "nested too deep" if isinstance(error, RecursionError) else str(error) or type(error).__name__
        raise UserError(
            Problem(f"{ref.file} cannot be composed", cause, "check its defaults list; docs/recipes.md")
        ) from error


def _hydra(error: Exception, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    for cause in (error.__cause__, error.__context__):
        if isinstance(cause, OmegaConfBaseException):
            return _omegaconf(cause, ref, overrides)
    absent = re.search(r"Could not delete from config\. '([^']+)' does not exist", str(error))
    if absent:
        return _unknown_key(absent.group(1), None, ref, overrides)
    return regroup.problem(str(error), ref, overrides)


def _omegaconf(error: OmegaConfBaseException, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key = str(error.full_key or error.key or "")
    first = (str(error.msg or error)).splitlines()[0]
    config = error.object_type if isinstance(error.object_type, type) else None
    kind = type(error).__name__
    if "not in" in first or "ConfigAttributeError" in kind or "ConfigKeyError" in kind:
        # A setting such as dict[str, str] takes any key, but Hydra wants new ones announced. Slots are dict[str, Any].
        if get_origin(error.ref_type) is dict and Any not in get_args(error.ref_type):
            typed = next((line for line in overrides if line.startswith(f"{key}=")), f"{key}=VALUE")
            return Problem(
                f"there is no key {key} yet", "it is a new entry of a setting that is a mapping", f"+{typed}"
            )
        return _unknown_key(key, config, ref, overrides)
    where = places.origin(key, ref, overrides)
    if "support deletion" in first:
        whose = owner(config) if config is not None and keys_of(config) else "the recipe"
        cause = f"a setting of {whose} cannot be taken away"
        return Problem(f"{key} is not deleted ({where})", cause, f"{key}=VALUE sets it; leave ~{key} out")
    misplaced = _in_file(ref) if not key else _on_command_line(key, ref, overrides)
    if misplaced is not None:
        return misplaced
    wanted = _wanted(key, error, config)
    value = places.value_typed(key, overrides) or "VALUE"
    return Problem(f"{key} cannot take that value ({where})", _cause(first), _remedy(key, wanted, value))


def _on_command_line(key: str, ref: RecipeRef, overrides: Sequence[str]) -> Problem | None:
    """A plain value where a part belongs, set to a typed node, which OmegaConf refuses."""
    seam = places.seam_at(key, ref)
    value = places.value_typed(key, overrides)
    if not seam:
        return None
    if value is None:
        return _in_file(ref)
    many = several(seam, key)
    remedy = f"{seam}@{key}={_choice(value, many=many)}{_hint(value, seam)}"
    fact = f"{key}={value} is a plain value where {'parts belong' if value == 'null' and many else 'a part belongs'}"
    return Problem(fact, _grouped(seam), remedy)


def _in_file(ref: RecipeRef) -> Problem | None:
    """The same in the recipe's file; the merge that fails there names no key."""
    for place, seam in places.places(ref).items():
        value = places.value_in_file(ref, place)
        if value is None or isinstance(value, dict):
            continue
        shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
        fact = (
            f"{place}: {shown} ({ref.file}) is a plain value where a {'stage' if seam == 'stage' else 'part'} belongs"
        )
        if seam == "stage" and shown not in part_names("stage"):
            return Problem(fact, "a stage takes its settings by key", f"write {place}: {{KEY: VALUE}}")
        typed = _choice(shown, many=several(seam, place))
        return Problem(fact, _grouped(seam), f"in defaults: - {seam}@{place}: {typed}{_hint(shown, seam)}")
    return None


def _grouped(seam: str) -> str:
    return f"{a(seam)} belongs there, which is chosen by its group and not by a value"


def _choice(value: str, *, many: bool) -> str:
    if not many or value.startswith("["):
        return value
    return "[]" if value == "null" else f"[{value}]"


def _hint(value: str, seam: str) -> str:
    names = part_names(seam)
    chosen = {word.strip() for word in value.strip("[]").split(",")} - {"", "null"}
    return f" (installed: {', '.join(names)})" if chosen - set(names) else ""


def _unknown_key(key: str, config: type | None, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    names = keys_of(config)
    if not names:
        parent = key.rpartition(".")[0]
        cfg = places.plain(ref)
        node = OmegaConf.select(cfg, parent) if cfg is not None and parent else cfg
        names = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    typed = [line.lstrip("+~").partition("=")[0] for line in overrides]
    rest = next((line.removeprefix(key) for line in typed if line == key or line.startswith(f"{key}.")), "")
    otherwise = f"lmgraft run {ref.given} --cfg job shows every key"
    return no_key(key, places.origin(key, ref, overrides), names, config, rest=rest, otherwise=otherwise)


def _wanted(key: str, error: OmegaConfBaseException, config: type | None) -> Any:
    """The type that a key takes."""
    if config is not None and dataclasses.is_dataclass(config):
        try:
            return get_type_hints(config).get(key.rpartition(".")[2], error.ref_type)
        except (NameError, TypeError):  # a plugin's annotation that only a type checker can read
            return error.ref_type
    return error.ref_type


def _cause(first: str) -> str:
    """OmegaConf's sentence without its names for things."""
    text = re.sub(r"'\$\{[^}]*\}'", "", first)
    text = re.sub(r"Invalid value assigned: (\w+) is not a ListConfig, list or tuple\.?", r"it takes a list", text)
    text = re.sub(r"Value '(.*)' of type '\w+' could not be converted to \w+", r"'\1' is of another type", text)
    text = re.sub(r"Merge error: (\w+) is not a subclass of (\w+)\.?", r"a \1 cannot stand for its settings;", text)
    text = re.sub(r"field '\S+' is not Optional|.*\bNoneType is not a subclass of .*", "it takes no null", text)
    for word, plain in {"DictConfig": "mapping", "ListConfig": "list", "NoneType": "null"}.items():
        text = text.replace(word, plain)
    return text


def _remedy(key: str, wanted: Any, value: str) -> str:
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        names = [item.name for item in wanted]  # OmegaConf takes the names
        return f"{key}={names[0]}" + (f", or one of {', '.join(names[1:])}" if names[1:] else "")
    name = wanted.__name__ if type(wanted) is type else str(wanted or "").replace("typing.", "")
    if name.lower().startswith("list"):
        whole = re.sub(r"\[\d+\]$", "", key)  # a list's own key where an entry of it is wrong
        return f"{whole}=[{'' if value == 'null' else value}]"
    return f"give it a value of type {name}" if name not in ("", "Any") else f"{key}=VALUE"
