"""A part's settings as options of a command: ``drop: int | None`` becomes ``--drop INTEGER``, and back a config.

The values are judged by OmegaConf, as those of a recipe are, so the same text means the same thing in both places.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import click
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmgraft import nodes
from lmgraft.cli._docs import field_docs
from lmgraft.component import MISSING, ComponentConfig
from lmgraft.errors import Problem, UserError

__all__ = ["Setting", "config_of", "in_options", "settings_of"]

#: A comma outside of brackets: ``a=[0,1],b=2`` are two pairs.
_OUTER_COMMA = re.compile(r",(?![^\[]*\])")

_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a config, or of a dataclass within it."""

    key: str
    """``drop``, or ``inner.scale`` of a nested dataclass."""
    kind: Any
    """Its type, without the None of an optional one."""
    nullable: bool
    default: Any
    doc: str

    @property
    def option(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def parameter(self) -> str:
        """Its name among a command's own: no field's name can clash with ``paths`` or ``help``."""
        return "field_" + self.key.replace(".", "__")

    @property
    def shape(self) -> str:
        """``flag``, ``list``, ``dict``, ``plain`` (its text is the value) or ``yaml`` (its text is read as one)."""
        origin = typing.get_origin(self.kind) or self.kind
        if origin is bool:
            return "flag"
        if origin in (list, tuple, dict):
            return "dict" if origin is dict else "list"
        plain = isinstance(origin, type) and (origin in _METAVARS or issubclass(origin, Enum))
        return "plain" if plain else "yaml"

    @property
    def required(self) -> bool:
        return self.default is MISSING or self.default == MISSING

    def click_option(self) -> click.Option:
        names = [self.parameter, self.option]
        if self.shape == "flag":
            names[1] += f"/--no-{self.option[2:]}"
            return click.Option(names, default=None, help=self._help())
        return click.Option(names, metavar=self._metavar(), multiple=self.shape in ("list", "dict"), help=self._help())

    def sample(self) -> str:
        """The option with a value that fits, for an example."""
        if self.shape == "flag":
            return self.option
        value = self.default if self.default not in (None, MISSING, "") else {int: 8, float: 0.5}.get(self.kind)
        if value is None and isinstance(self.kind, type) and issubclass(self.kind, Enum):
            value = next(iter(self.kind.__members__))
        plain = self.shape == "plain" and value is not None
        return f"{self.option} {getattr(value, 'name', value) if plain else self._metavar()}"

    def value(self, given: Any) -> Any:
        """What the command line said of it, as OmegaConf takes it."""
        if self.shape == "flag":
            return given
        if self.shape in ("list", "dict"):
            texts = [given] if isinstance(given, str) else list(given)
            if self.nullable and texts == ["null"]:
                return None
            return _items(texts) if self.shape == "list" else _pairs(texts)
        if self.nullable and given == "null":
            return None
        return given if self.shape == "plain" else _yaml(given)

    def _metavar(self) -> str:
        if isinstance(self.kind, type) and issubclass(self.kind, Enum):
            return "|".join(self.kind.__members__)
        words = {"list": "A,B,...", "dict": "KEY=VALUE,...", "yaml": "YAML"}
        return _METAVARS.get(self.kind) or words.get(self.shape, "TEXT")

    def _help(self) -> str:
        if self.required:
            return f"{self.doc}  [required]".strip()
        value = self.default.name if isinstance(self.default, Enum) else self.default
        # By identity: 1 and 0 are no switches.
        shown = next((word for one, word in ((None, "null"), (True, "on"), (False, "off")) if value is one), value)
        return f"{self.doc}  [default: {shown if shown != '' else 'empty'}]".strip()


def settings_of(config: type[Any], prefix: str = "") -> Iterator[Setting]:
    """Every field that a user may set; those of nested dataclasses under ``outer.inner``."""
    docs, hints = field_docs(config), typing.get_type_hints(config)
    for spec in dataclasses.fields(config):
        if not prefix and spec.name in ("part", "kind"):
            continue
        kind, nullable = _without_none(hints[spec.name])
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and not nullable:
            yield from settings_of(kind, f"{prefix}{spec.name}.")
            continue
        default = spec.default
        if spec.default_factory is not dataclasses.MISSING:
            default = spec.default_factory()
        if default is dataclasses.MISSING:
            default = MISSING
        yield Setting(prefix + spec.name, kind, nullable, default, docs.get(spec.name, ""))


def config_of(
    kind: type[ComponentConfig], part: str, settings: Sequence[Setting], given: Mapping[str, Any], command: str
) -> ComponentConfig:
    """The config with what was given; ``given`` is parameter -> what click made of it. ``command`` is what the user
    typed before the part's name, ``lmgraft merge``.

    :raises UserError: a value of another type, one that is required and missing, or what the config's own check says.
    """
    node = OmegaConf.structured(kind)
    problems = []
    for setting in settings:
        said = given.get(setting.parameter)
        if said is None or said == ():
            if setting.required:
                cause = f"{part} has no value of its own for it"
                problems.append(Problem(f"{setting.option} is missing", cause, setting.sample()))
            continue
        try:
            OmegaConf.update(node, setting.key, setting.value(said), merge=False)
        except (OmegaConfBaseException, ValueError) as error:
            shown = said if isinstance(said, str) else " ".join(map(str, said))
            cause = f"it must be {_named(setting.kind)}: {str(error).splitlines()[0]}"
            problems.append(Problem(f"{setting.option} {shown} does not fit", cause, setting.sample()))
    if problems:
        raise UserError(problems)
    node.part = part
    config = nodes.settings(node, kind)
    problems = [_as_problem(item, part, settings, config, command) for item in config.check()]
    if problems:
        raise UserError(problems)
    return config


def in_options(problem: Problem, settings: Iterable[Setting]) -> Problem:
    """A part speaks of its settings as a recipe does, ``drop=2``; here that is ``--drop 2``."""
    known = {setting.key: setting for setting in settings}
    if not known:
        return problem
    pattern = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, known))})=([^\s,;:()]+)")

    def option(match: re.Match[str]) -> str:
        setting, value = known[match[1]], match[2]
        if setting.shape != "flag":
            return f"{setting.option} {value}"
        return setting.option if value.lower() == "true" else f"--no-{setting.option[2:]}"

    return Problem(*(pattern.sub(option, text) for text in (problem.fact, problem.cause, problem.remedy)))


def _as_problem(
    item: Problem | str, part: str, settings: Sequence[Setting], config: ComponentConfig, command: str
) -> Problem:
    """A check's sentence begins with the name of the setting that it is about."""
    if isinstance(item, Problem):
        return in_options(item, settings)
    word, _, rest = item.partition(" ")
    fact = f"a setting of {part} does not fit"
    for setting in settings:
        if setting.key == word.strip(",:"):
            item = f"{setting.option} {rest}"
            value = "" if setting.shape == "flag" else f" {getattr(config, setting.key)}"
            fact = f"{setting.option}{value} does not fit"
    return in_options(Problem(fact, item, f"{command} {part} --help lists its settings"), settings)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind, kind is Any
    left = [one for one in typing.get_args(kind) if one is not type(None)]
    nullable = len(left) < len(typing.get_args(kind))
    return (left[0] if len(left) == 1 else kind), nullable


def _items(texts: Iterable[str]) -> list[Any]:
    """``0.3,0.7``, the option given twice, or a YAML list where an item holds a comma."""
    found: list[Any] = []
    for text in texts:
        read = _yaml(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",")]
        found += [item for item in read if item != ""]
    return found


def _pairs(texts: Iterable[str]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            found.update(_yaml(text))
            continue
        for pair in _OUTER_COMMA.split(text):
            key, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"{pair!r} has no =")
            found[key.strip()] = _yaml(value)
    return found


def _yaml(text: str) -> Any:
    import yaml
    from omegaconf._utils import get_yaml_loader

    try:
        return yaml.load(text, Loader=get_yaml_loader())  # a safe loader, with numbers such as 1e-3
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is no YAML") from error


def _named(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(kind.__members__)
    words = {int: "a whole number", float: "a number", str: "a text"}
    return words.get(kind) or str(kind).replace("typing.", "")
