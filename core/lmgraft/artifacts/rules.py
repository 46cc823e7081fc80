"""What each kind of artifact promises beyond its bytes, for ``lmgraft store verify``.

A digest shows that an artifact is what a stage wrote; the rules of its kind show that what the stage wrote is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from lmgraft.errors import Problem, UserError

__all__ = ["KINDS", "broken"]

#: kind -> the module whose ``verify(folder)`` knows its rules; imported when one is looked at.
KINDS = {
    "corpus": "lmgraft.artifacts.corpus",
    "tokenizer": "lmgraft.artifacts.tokenizer",
    "tokens": "lmgraft.artifacts.tokens",
    "model": "lmgraft.artifacts.checkpoint",
    "reference": "lmgraft.artifacts.reference",
    "scores": "lmgraft.artifacts.scores",
}


def broken(kind: str, folder: Path) -> list[str]:
    """One line for each rule that the artifact breaks; empty for a sound one, and for a kind of a third party's."""
    if kind not in KINDS:
        return []
    verify: Callable[[Path], Iterable[Problem | str] | None] = import_module(KINDS[kind]).verify
    try:
        found = list(verify(folder) or ())
    except UserError as error:
        found = list(error.problems)
    except Exception as error:  # a file may be damaged in any way, and a library may answer in any way
        found = [f"it cannot be read: {type(error).__name__}: {error}"]
    return [item if isinstance(item, str) else f"{item.fact}: {item.cause}" for item in found]
