"""Data source ``python_docs``: the topics and docstrings of the running interpreter, as documents.

One document a topic and one a module; files are read as data and parsed, never imported, so that reading them runs
nobody's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document, Unit

from lmgraft_python_docs.places import TOPICS, installed_units, stdlib_units, topics_unit
from lmgraft_python_docs.plugin import PythonDocsConfig
from lmgraft_python_docs.render import BROKEN, read_topics, render_module

__all__ = ["PythonDocs"]


class PythonDocs:
    """Reads ``pydoc_data.topics`` and the docstrings of the standard library, and of ``config.installed``."""

    def __init__(self, config: PythonDocsConfig) -> None:
        self.config = config

    def units(self) -> list[Unit]:
        """The topics, then one unit a .py file, sorted by id.

        Raises UserError where the interpreter has no topics or an installed package is not found.
        """
        units = [topics_unit(), *stdlib_units(self.config.tests)]
        for name in self.config.installed:
            units += installed_units(name)
        return sorted({unit.id: unit for unit in units}.values(), key=lambda unit: unit.id)

    def read(self, unit: Unit, offset: int) -> Iterator[Document]:
        """The topics, or the one document of a module; nothing for a file without docstrings.

        Raises UserError where a file vanished or, outside the standard library, does not parse.
        """
        documents = self._topics(unit) if unit.id == TOPICS else self._module(unit)
        yield from documents[offset:]

    def _topics(self, unit: Unit) -> list[Document]:
        try:
            topics = read_topics(_bytes(unit))
        except BROKEN as error:
            problem = Problem(
                f"python_docs: {unit.path} cannot be read",
                f"it is not the table of topics that Python ships: {error}",
                "repair this Python installation, or choose another data source",
            )
            raise UserError(problem) from None
        return [
            Document(id=f"{TOPICS}:{name}", text=text, group=unit.id, meta={"topic": name})
            for name, text in sorted(topics.items())
        ]

    def _module(self, unit: Unit) -> list[Document]:
        name = _dotted(unit.id)
        try:
            text = render_module(_bytes(unit), name)
        except BROKEN as error:
            # The standard library ships files that are broken on purpose; that is no fault of the user's.
            if unit.id.startswith("stdlib/"):
                return []
            problem = Problem(
                f"python_docs.installed: {unit.path}:{getattr(error, 'lineno', None) or 1} does not parse",
                f"{type(error).__name__}: {error}",
                f"take {unit.id.split('/')[1]} out of python_docs.installed, or repair the file",
            )
            raise UserError(problem) from None
        return [Document(id=unit.id, text=text, group=unit.id, meta={"module": name})] if text else []


def _dotted(unit_id: str) -> str:
    """``stdlib/json/__init__.py`` -> ``json``."""
    parts = unit_id.removesuffix(".py").split("/")[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _bytes(unit: Unit) -> bytes:
    try:
        return Path(unit.path or "").read_bytes()
    except OSError as error:
        problem = Problem(
            f"python_docs: {unit.path} cannot be read",
            f"{error.strerror or error}",
            "the file was there when the run began: repair the installation and start again",
        )
        raise UserError(problem) from None
