"""The string under a dataclass field is its documentation; Python drops it, the source keeps it."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

__all__ = ["field_docs"]


def field_docs(config: type[Any]) -> dict[str, str]:
    """name -> text, for the class and the classes it derives from; empty where no source is there."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        if isinstance(tree, ast.ClassDef):
            found.update(_of_body(tree.body))
    return found


def _of_body(body: list[ast.stmt]) -> dict[str, str]:
    found = {}
    for field, doc in itertools.pairwise(body):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        is_text = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
        if is_field and is_text:
            found[field.target.id] = " ".join(doc.value.value.split())  # type: ignore[attr-defined]
    return found
