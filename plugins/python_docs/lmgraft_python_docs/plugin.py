"""The light half of ``python_docs``: its settings and where its class lies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["PythonDocsConfig", "lmgraft_data_source"]


@dataclass
class PythonDocsConfig(ComponentConfig):
    """The interpreter's own documentation: text that every machine with Python has."""

    tests: bool = False
    """Read the standard library's test folders too."""
    installed: list[str] = field(default_factory=list)
    """Installed packages whose docstrings are added: import names (``numpy``) or distributions (``scikit-learn``)."""

    def license(self) -> str:
        """Python's own, for a model card; what further packages are licensed under is not looked up."""
        return "" if self.installed else "PSF-2.0"

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def check(self) -> Iterator[Problem | str]:
        if len(set(self.installed)) != len(self.installed):
            yield f"installed names a package twice: {', '.join(self.installed)}"
        for name in self.installed:
            if not name.strip("._- ") or any(character in name for character in "/\\ "):
                yield f"installed holds {name!r}; expected the name of a package, as in [numpy]"
            elif name in sys.stdlib_module_names:
                yield f"installed holds {name!r}, which is part of the standard library and read anyway"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="python_docs",
            target="lmgraft_python_docs.source:PythonDocs",
            config=PythonDocsConfig,
            summary="Topics and docstrings of the running interpreter; nothing is imported",
        )
    ]
