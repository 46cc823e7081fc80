"""Overrides of the command line by Hydra's grammar, and what is said of one that does not parse or means nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from lmgraft.errors import Problem, UserError
from lmgraft.phrases import part_names
from lmgraft.version import DOORS, MANY, SEAMS, several

__all__ = ["parse"]

_REMEDY = "write KEY=VALUE; quote what the shell or the grammar would split: 'KEY=\"a b\"'"


def parse(overrides: Sequence[str]) -> list[Override]:
    """Each override parsed; a :class:`UserError` names every one that does not parse."""
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    parsed, problems = [], []
    for line in overrides:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            problems.append(_unparsed(line, str(error)))
            continue
        problems += _meaningless(line, override)
        parsed.append(override)
    if problems:
        raise UserError(problems)
    return parsed


def _unparsed(line: str, text: str) -> Problem:
    key, equals, value = line.partition("=")
    fact = f"the override {line!r} does not parse"
    if not line.strip():
        return Problem(fact, "it is empty", "write KEY=VALUE, or leave it out")
    if not equals and not line.startswith("~"):
        return Problem(fact, "no `=` stands after the key", f"write {key}=VALUE, as in KEY=VALUE")
    if value.startswith("~"):
        cause = "a value that begins with ~ is quoted, since ~KEY deletes a key"
        return Problem(fact, cause, f"\"{key}='{value}'\", or write the home folder out")
    return Problem(fact, _plain(text), _quoted(key, value) or _REMEDY)


def _quoted(key: str, value: str) -> str:
    """The override with its value, or each value of a list, in quotes, where it parses so; else nothing."""
    from hydra.errors import HydraException

    inner = value.removeprefix("[").removesuffix("]")
    if set(inner) & set("\"'\\[]{}()$"):
        return ""  # quoted in part, or nested: what is meant is not plain
    if value.startswith("["):
        quoted = ",".join(f'"{word.strip()}"' for word in inner.split(",")).join("[]") if value.endswith("]") else ""
    else:
        quoted = f'"{value}"'
    try:
        OverridesParser.create().parse_override(f"{key}={quoted}")
    except HydraException:
        return ""
    return f"quote it: {shlex.quote(f'{key}={quoted}')}" if quoted else ""


def _plain(text: str) -> str:
    """The grammar's message without the names of its tokens."""
    text = re.sub(r"\s*See https?://\S+.*", "", " ".join(text.split()))
    text = re.sub(r"\s*expecting (?:\{.*\}|\S+)", "", text)
    text = re.sub(r"(?:mismatched input|missing \S+ at|extraneous input|no viable alternative at input) '<EOF>'",
                  "it ends too early", text)  # fmt: skip
    text = re.sub(r"(?:mismatched|extraneous) input|token recognition error at:|no viable alternative at input",
                  "it goes wrong at", text)  # fmt: skip
    return re.sub(r"\w*Exception while evaluating '.*?': ", "", text)


def _meaningless(line: str, override: Override) -> list[Problem]:
    """What parses, and would end in a type error inside Hydra."""
    if not override.key_or_group:
        return [Problem(f"the override {line!r} has no key", "nothing stands before the `=`", "write KEY=VALUE")]
    group, place = override.key_or_group, override.package
    if group not in (*SEAMS, *DOORS) or override.is_delete() or override.is_sweep_override():
        return []
    value: Any = override.value()
    names = value if isinstance(value, list) else [value]
    if place and group in MANY and not several(group, place) and len(names) != 1:
        cause = f"{place} is one part's key, and a list goes where the list is"
        remedy = f"{group}@{place}=NAME chooses one; {group}@{place.rpartition('.')[0]}=[NAME,NAME] several"
        return [Problem(f"{line} chooses {len(names)} parts", cause, remedy)]
    if all(isinstance(name, str) for name in names):
        return []
    choice = f"{group}@{place}" if place else group
    if several(group, place or ""):
        remedy = f"{choice}=[] takes none, {choice}=[NAME] one of {', '.join(part_names(group))}"
    else:
        remedy = f"{choice}=NAME, of {', '.join(part_names(group))}"
        out = f"~{choice}" if group in MANY else f"{place}=null"
        remedy += f"; {out} leaves an optional part out" if place else ""
    return [Problem(f"{line} chooses no part", "a group takes the name of a part", remedy)]
