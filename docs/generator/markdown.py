"""Docstrings and entries as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import indent

from generator.source import Entry, Field

__all__ = ["cell", "entry", "prose", "slug", "table"]

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")
_PARAMETER = re.compile(r":param (\w+):")
_RAISES = re.compile(r":raises (\w+):")


def prose(doc: str) -> str:
    """A docstring's conventions as Markdown's."""
    text = _ROLE.sub(lambda found: f"`{found[1]}`", doc)
    text = _RAISES.sub(r"Raises `\1`:", _PARAMETER.sub(r"`\1`:", text))
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    # Code right after a first line has lost its indentation, to ruff format or to cleandoc.
    text = re.sub(
        r"\A([^\n]*::\n\n)(?! )(.*)", lambda found: found[1] + indent(found[2], "    "), text, flags=re.DOTALL
    )
    text = re.sub(r"::\n\n(?=    )", ":\n\n", text)
    return re.sub(r"^Rules\n(?=- )", "**Rules**\n\n", text, flags=re.MULTILINE)


def cell(text: str) -> str:
    """One line, bars escaped, for a table."""
    return " ".join(prose(text).split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def code(text: str) -> str:
    """Inline code for a table's cell; nothing for nothing."""
    return f"`{cell(text)}`" if text else ""


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def entry(one: Entry, heading: str) -> Iterator[str]:
    """The blocks of one public name; ``heading`` is the line above them, ``### ...``."""
    yield heading
    if one.kind in ("function", "value"):
        yield f"```python\n{one.signature}\n```"
    if one.doc:
        yield prose(one.doc)
    if one.fields:
        yield _fields(one)
    for method in one.methods:
        yield f"```python\n{method.signature}\n```"
        if method.doc:
            yield prose(method.doc)


def _fields(one: Entry) -> str:
    if one.kind == "enum":
        return table(("member", "value", "meaning"), [(code(f.name), code(f.default), cell(f.doc)) for f in one.fields])
    if not any(f.default for f in one.fields):
        return table(("field", "type", "meaning"), [(code(f.name), code(f.type), cell(f.doc)) for f in one.fields])
    return table(("field", "type", "default", "meaning"), [_row(f) for f in one.fields])


def _row(field: Field) -> tuple[str, ...]:
    return (code(field.name), code(field.type), code(field.default) or "required", cell(field.doc))
