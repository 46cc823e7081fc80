"""Reads what core says of itself from its source: signatures, docstrings, fields. Nothing of it is imported.

Parsed and not imported, because the helpers of ``lmgraft.training`` need torch and a page about them does not, and
because signatures then stand as they were written, the same under every Python.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "Entry", "Field", "Method", "Module", "module"]

ROOT = Path(__file__).parents[2]

#: The longest signature on one line.
WIDTH = 110
#: Decorators that a caller must know of.
MARKS = ("property", "classmethod", "staticmethod", "contextmanager")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a value type, an attribute of a protocol, or a member of an enumeration."""

    name: str
    type: str
    default: str
    doc: str


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One public name of a module."""

    name: str
    kind: str
    """``function``, ``protocol``, ``dataclass``, ``enum``, ``class`` or ``value``."""
    signature: str
    doc: str
    fields: tuple[Field, ...] = ()
    methods: tuple[Method, ...] = ()

    def undocumented(self) -> Iterator[str]:
        """The names below this one, and its own, that nothing is said of."""
        if not self.doc:
            yield self.name
        for part in (*self.fields, *self.methods):
            # Of a constructor its class's docstring speaks; a protocol's says what core calls it with.
            if not part.doc and (part.name != "__init__" or self.kind == "protocol"):
                yield f"{self.name}.{part.name}"


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    doc: str
    public: tuple[str, ...]
    """``__all__``."""
    entries: dict[str, Entry]
    """Every name at the top that is no import, in the order of the file."""


@cache
def module(name: str) -> Module:
    """A module of core by its dotted name."""
    path = ROOT / "core" / Path(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    found = {entry.name: entry for entry in _entries(tree.body, text.splitlines())}
    return Module(name, ast.get_docstring(tree) or "", tuple(_all(tree)), found)


def _all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _entries(body: list[ast.stmt], lines: list[str]) -> Iterator[Entry]:
    for node, after in itertools.zip_longest(body, body[1:]):
        if isinstance(node, ast.FunctionDef):
            yield Entry(node.name, "function", _signature(node), ast.get_docstring(node) or "")
        elif isinstance(node, ast.ClassDef):
            yield _class(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and node.value is not None:
                doc = _string(after) or _comment(lines, node.lineno)
                yield Entry(target.id, "value", "\n".join(lines[node.lineno - 1 : node.end_lineno]), doc)


def _class(node: ast.ClassDef) -> Entry:
    bases = [ast.unparse(base) for base in node.bases]
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    kind = "class"
    if any(base.startswith("Protocol") for base in bases):
        kind = "protocol"
    elif any(mark.startswith("dataclass") for mark in marks):
        kind = "dataclass"
    elif "Enum" in bases:
        kind = "enum"
    said = f"({', '.join(bases)})" if bases else ""
    methods = tuple(_methods(node))
    return Entry(node.name, kind, f"class {node.name}{said}", ast.get_docstring(node) or "", _fields(node), methods)


def _fields(node: ast.ClassDef) -> tuple[Field, ...]:
    found = []
    for item, after in itertools.zip_longest(node.body, node.body[1:]):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            target, kind = item.target.id, ast.unparse(item.annotation)
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            target, kind = item.targets[0].id, ""
        else:
            continue
        if not target.startswith("_"):
            found.append(Field(target, kind, _default(item.value), _string(after)))
    return tuple(found)


def _methods(node: ast.ClassDef) -> Iterator[Method]:
    for item in node.body:
        if not isinstance(item, ast.FunctionDef):
            continue
        # A constructor is part of what a caller needs; other names with underscores are not.
        if item.name == "__init__" or not item.name.startswith("_"):
            yield Method(item.name, _signature(item), ast.get_docstring(item) or "")


def _signature(node: ast.FunctionDef) -> str:
    """On one line where it fits, otherwise one argument a line."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    above = "".join(f"@{mark}\n" for mark in marks if mark in MARKS)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    said = list(_arguments(node.args))
    line = f"def {node.name}({', '.join(said)}){returns}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n" + "".join(f"    {argument},\n" for argument in said) + f"){returns}"
    return above + line


def _arguments(all_of: ast.arguments) -> Iterator[str]:
    first = [*all_of.posonlyargs, *all_of.args]
    bare = [None] * (len(first) - len(all_of.defaults))
    for argument, default in zip(first, [*bare, *all_of.defaults], strict=True):
        yield _argument(argument, default)
    if all_of.vararg:
        yield f"*{_argument(all_of.vararg, None)}"
    elif all_of.kwonlyargs:
        yield "*"
    for argument, default in zip(all_of.kwonlyargs, all_of.kw_defaults, strict=True):
        yield _argument(argument, default)
    if all_of.kwarg:
        yield f"**{_argument(all_of.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    equals = " = " if argument.annotation else "="
    return f"{ast.unparse(argument)}{equals}{_plain(default)}"


def _plain(node: ast.expr) -> str:
    """Source in the double quotes that it was written with."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        named = {word.arg: _plain(word.value) for word in value.keywords}
        made = named.get("default_factory", "")
        return named.get("default", {"dict": "{}", "list": "[]"}.get(made, f"{made}()"))
    return _plain(value)


def _string(node: ast.stmt | None) -> str:
    """The string under a field or a value is its documentation."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""


def _comment(lines: list[str], number: int) -> str:
    """The ``#:`` lines above line ``number``."""
    found: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.startswith("#:"):
            break
        found.insert(0, line[2:].strip())
    return "\n".join(found)
