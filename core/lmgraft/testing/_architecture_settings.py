"""The settings of a finished model, read back from its ``config.json``."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from lmgraft.artifacts import checkpoint
from lmgraft.component import ComponentConfig, is_execution
from lmgraft.errors import Problem, UserError
from lmgraft.loading import architecture_for
from lmgraft.registry import build
from lmgraft.testing._architecture_base import ArchitectureBase
from lmgraft.testing.difference import difference
from lmgraft.testing.outcome import NotApplicable

__all__ = ["ArchitectureSettings"]


class ArchitectureSettings(ArchitectureBase):
    """``hub_config`` and ``from_hub``."""

    def test_config_json_is_read_back(self) -> None:
        """the settings are found again from config.json, every field also at another value than the suite's"""
        kind, config = self.installed.component.config, self.compose()
        reader = getattr(kind, "from_hub", None)
        if reader is None:
            raise NotApplicable(f"{kind.__name__} has no from_hub: its models can be trained and not loaded")
        written = self._written(config)
        self._read_back(config, written, "")
        for name, value, changed in self._others(config):
            self._read_back(changed, self._written(changed), f" with {name}={_shown(value)}")
        other = reader({"model_type": "of_nobody", "vocab_size": 3})
        fact = f"{kind.__name__}.from_hub takes a config.json of another model_type for its own"
        remedy = 'return None unless config.get("model_type") is yours'
        self.require(other is None, fact, f"of {{'model_type': 'of_nobody'}} it made {other}", remedy)
        (self.folder / checkpoint.CONFIG).write_text(json.dumps(written), encoding="utf-8")
        found, model_type = architecture_for(self.folder), written.get("model_type")
        self.require(
            found.hub_config(self.vocab_size) == written,
            f"{self.name}: lmgraft finds another architecture for its config.json",
            f"{type(found).__module__}.{type(found).__qualname__} claims model_type {model_type!r}",
            f"take a model_type of your own, such as {self.component!r}",
        )

    def _written(self, config: ComponentConfig) -> Any:
        found = build(self.installed.component, config).hub_config(self.vocab_size)
        remedy = "hub_config returns a mapping of text, numbers, true and false, None, lists and objects"
        fact = f"hub_config() of {self.name} gives {str(found)[:60]}"
        self.require(isinstance(found, Mapping), fact, "config.json is a JSON object", remedy)
        try:
            return json.loads(json.dumps(found))
        except (TypeError, ValueError) as error:
            self.require(False, f"hub_config() of {self.name} is no JSON", str(error), remedy)

    def _read_back(self, config: ComponentConfig, written: Any, words: str) -> None:
        kind: Any = self.installed.component.config
        fact = f"{self.name}{words} does not find its own settings in config.json"
        remedy = (
            f"{kind.__name__}.from_hub(hub_config(V)) gives the settings again: write every field that shapes the model"
        )
        try:
            back = kind.from_hub(written)
        except UserError as error:
            first = error.problems[0]
            self.require(False, fact, f"from_hub refuses it: {first.fact}: {first.cause}", remedy)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.require(False, fact, f"from_hub ends in {type(error).__name__}: {error}", remedy)
        self.require(back is not None, fact, "from_hub says that it is none of its own", remedy)
        is_one = isinstance(back, kind)
        self.require(is_one, fact, f"from_hub gives a {type(back).__name__}, not a {kind.__name__}", remedy)
        found = difference(_shaping(config), _shaping(back))
        self.require(not found, fact, f"{found} came back" if found else "", remedy)

    def _others(self, config: ComponentConfig) -> Iterator[tuple[str, Any, ComponentConfig]]:
        """Each field in turn at another value that the part takes; fields without one that the kit knows are left
        out."""
        hints = typing.get_type_hints(type(config))
        for name in _shaping(config):
            for value in _other_values(getattr(config, name), hints.get(name)):
                changed = dataclasses.replace(config, **{name: value})
                if self._takes(changed):
                    yield name, value, changed
                    break

    def _takes(self, config: ComponentConfig) -> bool:
        """A value that its check, its build or hub_config refuses says nothing of config.json."""
        try:
            if any(isinstance(problem, (Problem, str)) for problem in config.check()):
                return False
            part = build(self.installed.component, config)
            part.build(self.vocab_size)
            part.hub_config(self.vocab_size)
        except Exception:
            return False
        return True


def _shaping(config: ComponentConfig) -> dict[str, Any]:
    """The fields that come back; ``part`` is core's to fill in, and how work is done is no matter of a model's."""
    fields = dataclasses.fields(config)
    return {spec.name: getattr(config, spec.name) for spec in fields if spec.name != "part" and not is_execution(spec)}


def _other_values(value: Any, hint: Any) -> tuple[Any, ...]:
    """Values of the same type, the likeliest to be taken first."""
    if isinstance(value, Enum):
        members = list(type(value))
        at = members.index(value)
        return (*members[at + 1 :], *members[:at])
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value * 2, value // 2, value - 1) if value else (1, 2)
    if isinstance(value, float):
        return (value * 2, value / 2, value + 0.5) if value else (0.5, 0.1)
    if value is None:
        return next((found for kind, found in _OF_NONE.items() if kind in typing.get_args(hint)), ())
    return ()


_OF_NONE: Mapping[type, tuple[Any, ...]] = {bool: (True,), int: (2, 4, 1), float: (0.5, 2.0)}


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Enum) else repr(value)
