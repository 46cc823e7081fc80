"""docs/reference.md: every hook, every seam's contract, and the helpers, from core's own docstrings."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraft.hookspecs import LIFECYCLE as EVENTS
from lmgraft.version import DOORS, MANY, SEAM_API, SEAMS

from generator.helpers import helpers
from generator.markdown import entry, prose, slug
from generator.source import Entry, Module, module

__all__ = ["COMPONENT", "LIFECYCLE", "hooks", "reference"]

HEAD = """# Reference

Generated from core's docstrings by `python docs/generate.py`; edit those, not this page.
[plugins.md](plugins.md) says how a plugin is put together, [testing.md](testing.md) how it is held to what stands
here, [parts.md](parts.md) lists the parts that come with lmgraft and their settings, [recipes.md](recipes.md) says how
recipes bind parts to stages.

A part is a class that is called with its config and nothing else, and that has the methods of its seam's protocol: no
base class, no registration in code. Types below are those of the modules that the sections name
(`lmgraft.seams.SEAM`); B stands for sequences, T for positions, V for vocabulary entries."""

#: The public names of lmgraft.component, in the order in which an author meets them.
COMPONENT = ("Component", "ComponentConfig", "execution", "MISSING", "StageConfig", "slot", "slots", "from_stage")
#: Of interest to who writes a new kind of stage or a tool.
COMPONENT_MORE = ("is_execution", "result_fields")

#: What stands behind a name in a heading, so that ``Tensors`` and ``tensors`` have anchors of their own.
KINDS = {"protocol": ", a protocol", "dataclass": ", a value type", "enum": ", an enumeration", "class": ", a class"}

LIFECYCLE = tuple(f"lmgraft_{name}" for name in EVENTS)

OFFER = """A hook is a module-level function of the *light* module that an entry point names, marked
`@lmgraft.hookspecs.hookimpl`. It returns `Component`s whose names are the names of the entry points, no more and no
fewer."""


def hooks() -> dict[str, Entry]:
    """Seam -> its hook, then the lifecycle hooks under their own names."""
    specs = module("lmgraft.hookspecs").entries
    return {seam: specs[f"lmgraft_{seam}"] for seam in (*SEAMS, *DOORS)} | {name: specs[name] for name in LIFECYCLE}


def reference() -> str:
    sections = list(_sections())
    contents = "\n".join(_contents(sections))
    blocks = [HEAD, "## Contents", contents, *(block for section in sections for block in section)]
    return "\n\n".join(blocks) + "\n"


def _sections() -> Iterator[list[str]]:
    yield [
        "## What a plugin offers",
        prose(OFFER),
        *_entries(module("lmgraft.component"), (*COMPONENT, *COMPONENT_MORE)),
    ]
    for seam in SEAMS:
        yield _seam(seam, "Seam")
    for door in DOORS:
        yield _seam(door, "Door")
    known = module("lmgraft.hookspecs").entries
    told = [block for name in LIFECYCLE for block in entry(known[name], f"### `{name}`")]
    said = "A tracker's class has any of these as methods, marked `@hookimpl`; a method may leave arguments out."
    yield ["## Lifecycle hooks", said, *told]
    yield ["## Helpers", "What first-party plugins build on, open to any other plugin."]
    for home, names in helpers().items():
        yield [f"## `{home}`", prose(module(home).doc), *_entries(module(home), names, home)]


def _seam(seam: str, word: str) -> list[str]:
    contract, spec = module(f"lmgraft.seams.{seam}"), hooks()[seam]
    oldest, newest = SEAM_API[seam]
    many = "any number, in order, each under its own name" if seam in MANY else "one in each place"
    rows = [
        f"- hook: `{spec.signature.removeprefix('def ')}`: {prose(spec.doc)}",
        f'- entry points: `[project.entry-points."lmgraft.{seam}"]`',
        f"- version of the protocol (`Component.api`): {oldest}" + (f" to {newest}" if newest != oldest else ""),
        f"- a recipe takes {many}",
    ]
    return [f"## {word} `{seam}`", "\n".join(rows), prose(contract.doc), *_entries(contract, _public(contract))]


def _public(contract: Module) -> tuple[str, ...]:
    """Protocols first, in the order of the file: they are what an author has to write."""
    names = [name for name in contract.entries if name in contract.public]
    return tuple(sorted(names, key=lambda name: contract.entries[name].kind != "protocol"))


def _entries(home: Module, names: tuple[str, ...], prefix: str = "") -> Iterator[str]:
    for name in names:
        one = home.entries[name]
        said = f"{prefix.removeprefix('lmgraft.')}.{name}" if prefix else name
        yield from entry(one, f"### `{said}`{KINDS.get(one.kind, '')}")


def _contents(sections: list[list[str]]) -> Iterator[str]:
    for section in sections:
        yield _link(section[0].removeprefix("## "), "")
        inner = [block.removeprefix("### ") for block in section if block.startswith("### ")]
        if inner:
            yield "  - " + " · ".join(_link(heading, None) for heading in inner)


def _link(heading: str, bullet: str | None) -> str:
    """``bullet`` None: a link within a line, by the bare name."""
    if bullet is None:
        return f"[{heading.partition(',')[0]}](#{slug(heading)})"
    return f"- [{heading}](#{slug(heading)})"
