"""Data source ``fortunes``: the format of strfile(8), texts separated by lines that hold a single ``%``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document, Unit

from outside_fortunes.plugin import FortunesConfig

__all__ = ["Fortunes"]


class Fortunes:
    """One unit a file; a text's place in its file is its id. All texts of a file are one group."""

    def __init__(self, config: FortunesConfig) -> None:
        self.config = config

    def units(self) -> list[Unit]:
        if self.config.path is None:
            return []
        root = Path(self.config.path).expanduser()
        if not root.exists():
            raise UserError(Problem(f"fortunes.path={root}", "nothing is there", "check the path"))
        # strfile's indices (.dat) and hidden files lie beside the texts.
        files = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.is_file())
        texts = [path for path in files if path.suffix != ".dat" and not path.name.startswith(".")]
        return [Unit(id=path.name, path=str(path), size=path.stat().st_size) for path in texts]

    def read(self, unit: Unit, offset: int) -> Iterator[Document]:
        assert unit.path is not None
        documents = (
            Document(id=f"{unit.id}:{number}", text=text, group=unit.id)
            for number, text in enumerate(_texts(Path(unit.path)))
        )
        yield from islice(documents, offset, None)


def _texts(file: Path) -> Iterator[str]:
    lines: list[str] = []
    with open(file, "rb") as raw:
        for number, line in enumerate(raw, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                cause = f"line {number} is not UTF-8: {error.reason}"
                raise UserError(Problem(f"{file}: line {number}", cause, "save the file as UTF-8")) from error
            if text.rstrip("\r\n") == "%":
                yield from _closed(lines)
                lines = []
            else:
                lines.append(text)
    yield from _closed(lines)


def _closed(lines: list[str]) -> Iterator[str]:
    text = "".join(lines).strip("\n")
    if text:
        yield text
