"""A module's source as plain text such as ``help()`` prints, made from its syntax tree: nothing is imported."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator

__all__ = ["read_topics", "render_module"]

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

#: What parsing a file that is no valid Python can raise: the last two come from very deep nesting.
BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError)


def render_module(source: bytes, name: str) -> str | None:
    """The docstrings of a module, of its classes and of its functions, in source order.

    ``source`` is the file as it is on disk (an encoding cookie is honoured); ``name`` the dotted name to print first.
    Each documented definition gives its signature and its cleaned docstring, indented; public ones without a docstring
    give the signature alone. None where there is no docstring at all. Raises one of ``BROKEN``'s for a broken file.
    """
    tree = _parse(source)
    docstring = ast.get_docstring(tree)
    entries = list(_entries(tree.body, ""))
    if not docstring and not any(text for _, text in entries):
        return None
    parts = [name, docstring or ""]
    bare: list[str] = []
    for heading, text in entries:
        bare.append(heading)
        if text:
            parts += ["\n".join(bare), textwrap.indent(text, "    ")]
            bare = []
    parts.append("\n".join(bare))
    return _clean("\n\n".join(part for part in parts if part))


def read_topics(source: bytes) -> dict[str, str]:
    """The dictionary ``topics`` of ``pydoc_data/topics.py``, read as a literal.

    Raises SyntaxError where the file holds no such literal.
    """
    for statement in _parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "topics" for target in targets):
            topics = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
            return {str(name): _clean(str(text)) for name, text in topics.items()}
    raise SyntaxError("no dictionary named topics")


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's files are not the reader's business
        return ast.parse(source)


def _entries(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    """(heading, docstring or "") of the definitions in ``body``; those inside functions are left out."""
    for node in body:
        if isinstance(node, Definition):
            text = ast.get_docstring(node) or ""
            inner = list(_entries(node.body, f"{prefix}{node.name}.")) if isinstance(node, ast.ClassDef) else []
            if text or inner or _is_public(node.name):
                yield _heading(node, prefix), text
            yield from inner
        else:
            for block in _blocks(node):
                yield from _entries(block, prefix)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statement lists inside ``if``, ``try``, ``with`` and loops, where modules hide definitions."""
    for field in ("body", "handlers", "orelse", "finalbody"):
        for child in (block := getattr(node, field, [])):
            if isinstance(child, ast.ExceptHandler):
                yield child.body
        if block and isinstance(block[0], ast.stmt):
            yield block


def _is_public(name: str) -> bool:
    """Other special methods without a docstring say nothing that their name does not."""
    return not name.startswith("_") or name == "__init__"


def _heading(node: Definition, prefix: str) -> str:
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(part) for part in (*node.bases, *node.keywords)]
        return f"class {prefix}{node.name}" + (f"({', '.join(bases)})" if bases else "")
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{start}{prefix}{node.name}({ast.unparse(node.args)}){returns}"


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: a docstring may spell half of a surrogate pair."""
    return text.strip("\n").encode("utf-8", "replace").decode("utf-8")
