"""lmgraft builds language models from parts: a minimal core, plugins behind seven seams, Hydra recipes.

``lmgraft.run(recipe, overrides)`` gives a :class:`Run`; ``lmgraft.load(path)`` gives a model to ask. Both are imported
on first use: importing ``lmgraft`` itself costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmgraft.api import Run as Run
    from lmgraft.api import open_run as open_run
    from lmgraft.api import run as run
    from lmgraft.loading import load as load
    from lmgraft.loading import load_tokenizer as load_tokenizer

__all__ = ["Run", "load", "load_tokenizer", "open_run", "run"]

_HOME = {"Run": "api", "run": "api", "open_run": "api", "load": "loading", "load_tokenizer": "loading"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from lmgraft.version import installed

        return installed()
    if name not in _HOME:
        raise AttributeError(f"module 'lmgraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lmgraft.{_HOME[name]}"), name)
