"""One unit a file, one document a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document, Unit

from titled_blocks.format import FormatError, parse
from titled_blocks.lmgraft_part import TitledBlocksConfig


class TitledBlocks:
    def __init__(self, config: TitledBlocksConfig) -> None:
        self.config = config

    def units(self) -> list[Unit]:
        if self.config.path is None:
            return []
        root = Path(self.config.path)
        if root.is_file():
            files = {root.name: root}
        elif root.is_dir():
            found = (file for file in root.rglob(f"*{self.config.suffix}") if file.is_file())
            files = {file.relative_to(root).as_posix(): file for file in found}
        else:
            raise UserError(Problem(f"{root} does not exist", "titled_blocks reads it", "correct the setting path"))
        if not files:
            raise UserError(
                Problem(
                    f"{root} holds no {self.config.suffix} files",
                    "titled_blocks reads nothing else",
                    "set path to another folder, or suffix to what your files end in",
                )
            )
        return [Unit(id=name, path=str(file), size=file.stat().st_size) for name, file in sorted(files.items())]

    def read(self, unit: Unit, offset: int) -> Iterator[Document]:
        yield from islice(self._documents(unit), offset, None)

    def _documents(self, unit: Unit) -> Iterator[Document]:
        assert unit.path is not None
        try:
            with open(unit.path, "rb") as raw:
                for number, block in enumerate(parse(_decoded(raw))):
                    for header in self.config.require:
                        if header.lower() not in block.headers:
                            raise FormatError(block.line, f"the block has no header {header}:")
                    yield Document(id=f"{unit.id}:{number}", text=block.text, group=unit.id, meta=block.headers)
        except FormatError as error:
            raise UserError(
                Problem(f"{unit.path}, line {error.line} cannot be read", error.why, "correct that line")
            ) from error


def _decoded(raw: Iterable[bytes]) -> Iterator[str]:
    """Lines end with \\n alone; other line ends are text."""
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(number, f"it is not UTF-8: {error.reason}") from error
