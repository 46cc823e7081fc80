"""docs/testing.md: every suite of the conformance kit, what an author may set and override, and what it checks.

Parsed, as the reference is: suites of models need torch, and a page about them does not. A seam whose suite is not
written yet has no section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from lmgraft.testing import SUITES
from lmgraft.version import DOORS

from generator.markdown import cell, code, entry, prose, slug, table
from generator.source import ROOT, Entry, Field, Method, module

__all__ = ["checks", "common", "suites", "testing"]

HEAD = """# The conformance kit

Generated from the docstrings of `lmgraft.testing` by `python docs/generate.py`; edit those, not this page.
[plugins.md](plugins.md) says how a plugin is put together, [reference.md](reference.md) what each seam promises.

A suite holds one part, as installed, to its seam's contract. A suite of yours is a class in a module that your wheel
carries, and that imports no pytest:

```python
# my_dpo/conformance.py
from collections.abc import Mapping
from typing import Any, ClassVar

from lmgraft.testing import ObjectiveSuite


class TestMyDpo(ObjectiveSuite):
    component = "my_dpo"
    settings: ClassVar[Mapping[str, Any]] = {"beta": 0.2}


class TestMyDpoWithAMargin(ObjectiveSuite):
    component = "my_dpo"
    settings: ClassVar[Mapping[str, Any]] = {"beta": 0.2, "margin": 1.0}
```

- The same part with other settings is a second class. All classes of the module that name a `component` are run; those
  that it only imports are not.
- `ClassVar` keeps ruff's RUF012 (a mutable default of a class) quiet; `settings = {...}` works as well.
- pytest collects it from a test module: `from my_dpo.conformance import TestMyDpo, TestMyDpoWithAMargin`.
- `lmgraft plugins check my-dpo` finds it where pyproject.toml names the module:
  `[project.entry-points."lmgraft.testing"]`, `my_dpo = "my_dpo.conformance"`. A part without a suite is checked by the
  bare suite of its seam, with its defaults.
- A method `test_...(self)` of your own is a check like the others; its docstring is the line that is printed.
  `self.require(condition, fact, cause, remedy)` fails it in three lines, `raise NotApplicable(reason)` skips it."""

#: What every suite has, told of once.
COMMON = ("PartSuite", "Suite")
#: Called around each check, by pytest and by ``lmgraft plugins check``; and what a seam's suite sets.
HIDDEN = ("setup_method", "teardown_method", "seam")
FOLDER = ROOT / "core" / "lmgraft" / "testing"


@lru_cache(maxsize=1)
def suites() -> dict[str, tuple[Entry, ...]]:
    """Seam or door -> its suite and what that inherits from, the suite first, without what all suites have."""
    found = {seam: _lineage(name) for seam, name in SUITES.items()}
    return {seam: line for seam, line in found.items() if line}


@lru_cache(maxsize=1)
def _classes() -> dict[str, Entry]:
    names = [f"lmgraft.testing.{path.stem}" for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"]
    return {one.name: one for name in names for one in module(name).entries.values() if one.kind == "class"}


def _lineage(name: str) -> tuple[Entry, ...]:
    known = _classes()
    if name not in known or name in COMMON:
        return ()
    inside = re.search(r"\((.*)\)", known[name].signature)
    bases = inside[1].split(", ") if inside else []
    return tuple(dict.fromkeys([known[name], *(one for base in bases for one in _lineage(base))]))


def common() -> tuple[Entry, ...]:
    """What every suite inherits from."""
    known = _classes()
    return tuple(known[name] for name in COMMON)


def testing() -> str:
    sections = list(_sections())
    contents = "\n".join(f"- [{head}](#{slug(head)})" for head in (part[0].removeprefix("## ") for part in sections))
    return "\n\n".join([HEAD, "## Contents", contents, *(block for part in sections for block in part)]) + "\n"


def _sections() -> Iterator[list[str]]:
    told = "What a suite of any seam has beside its own. All methods are there: override those that your part needs."
    yield ["## Every suite", told, *_suite(common())]
    for seam, line in suites().items():
        word = "door" if seam in DOORS else "seam"
        contract = f"The contract: [{word} {seam}](reference.md#{word}-{seam})."
        yield [f"## {seam}: {line[0].name}", prose(line[0].doc), contract, *_suite(line)]
    recipes = _lineage("RecipesSuite")
    if recipes:
        said = "`lmgraft plugins check` runs it for a distribution with recipes; there is nothing to write."
        yield ["## recipes by pip: RecipesSuite", said, *_checks(recipes)]
    home = module("lmgraft.testing.inputs")
    yield ["## What parts are shown: lmgraft.testing.inputs", prose(home.doc), *_inputs()]
    outcomes = module("lmgraft.testing.outcome").entries
    told = "Both are exported by `lmgraft.testing`."
    names = ("Nonconforming", "NotApplicable")
    yield ["## How a check ends", told, *(b for n in names for b in entry(outcomes[n], f"### `{n}`"))]


def _suite(line: tuple[Entry, ...]) -> Iterator[str]:
    yield from _attributes(line)
    methods = [method for method in _methods(line) if not method.name.startswith("test_")]
    if methods:
        yield "To override, or to call:"
    for method in methods:
        yield f"```python\n{method.signature}\n```"
        yield prose(method.doc)
    yield from _checks(line)


def _attributes(line: tuple[Entry, ...]) -> Iterator[str]:
    found: dict[str, Field] = {}
    for one in line:
        for field in one.fields:
            if field.name not in HIDDEN:
                found.setdefault(field.name, field)
    said = " ".join(one.doc for one in line)
    rows = [
        (
            code(f.name),
            code(_bare(f.type)),
            code(f.default),
            cell(f.doc) or ("see above" if f"`{f.name}" in said else ""),
        )
        for f in found.values()
    ]
    if rows:
        yield table(("attribute", "type", "default", "meaning"), rows)


def _bare(annotation: str) -> str:
    inside = re.fullmatch(r"ClassVar\[(.*)\]", annotation)
    return inside[1] if inside else annotation


def _methods(line: tuple[Entry, ...]) -> list[Method]:
    """Those with a word said of them, the nearest of each name."""
    found: dict[str, Method] = {}
    for one in line:
        for method in one.methods:
            if method.doc and method.name not in HIDDEN:
                found.setdefault(method.name, method)
    return list(found.values())


def checks(line: tuple[Entry, ...]) -> dict[str, str]:
    """``test_...`` -> what it holds the part to."""
    return {method.name: method.doc for method in _methods(line) if method.name.startswith("test_")}


def _checks(line: tuple[Entry, ...]) -> Iterator[str]:
    rows = [(code(name), cell(doc)) for name, doc in checks(line).items()]
    if rows:
        yield table(("check", "holds the part to"), rows)


def _inputs() -> Iterator[str]:
    home = module("lmgraft.testing.inputs")
    for name in home.public:
        one = home.entries[name]
        if one.kind == "value":
            yield from (f"### `{name}`", prose(one.doc))
        else:
            yield from entry(one, f"### `{name}`")
