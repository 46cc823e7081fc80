"""Data source ``files``: local text, JSONL, JSON and Parquet, compressed or not."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraft.seams.data_source import Document, Unit

from lmgraft_files.find import find_units, group_of
from lmgraft_files.formats import Format, format_of
from lmgraft_files.json_array import json_table
from lmgraft_files.json_lines import JsonLines
from lmgraft_files.parquet import Parquet
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.row import RowError, RowReader
from lmgraft_files.table import Table, bad_row
from lmgraft_files.text import read_pieces

__all__ = ["Files"]


class Files:
    """Reads the files that ``config.path`` names; a unit is a file, or a range of a large one."""

    def __init__(self, config: FilesConfig) -> None:
        self.config = config
        self.reader = RowReader(config)

    def units(self) -> list[Unit]:
        """All units, sorted by file and start. Raises UserError where a path is missing or has nothing to read."""
        return find_units(self.config)

    def read(self, unit: Unit, offset: int) -> Iterator[Document]:
        """The documents of a unit after its first ``offset``; ids are the unit's id and the number of piece or row.

        Raises UserError, naming file and line, for what is corrupt, not UTF-8 or not the rows that were asked for.
        """
        table = self._table(unit)
        return self._text(unit, offset) if table is None else self._rows(unit, table, offset)

    def _table(self, unit: Unit) -> Table | None:
        path = unit.path or ""
        kind = format_of(path, self.config)
        if kind is Format.lines:
            return JsonLines(path, unit.start, unit.end)
        if kind is Format.json:
            return json_table(path)
        return Parquet(path, self.reader) if kind is Format.parquet else None

    def _text(self, unit: Unit, offset: int) -> Iterator[Document]:
        pieces = read_pieces(unit.path or "", unit.start, unit.end, self.config.document_bytes, offset)
        for number, text in enumerate(pieces, start=offset):
            yield Document(id=f"{unit.id}:{number}", text=text, group=group_of(unit))

    def _rows(self, unit: Unit, table: Table, offset: int) -> Iterator[Document]:
        for number, (place, row) in enumerate(table.rows(offset), start=offset):
            try:
                document = self.reader.document(row, f"{unit.id}:{number}")
            except RowError as error:
                raise bad_row(table.where(place), error) from None
            yield document
