"""Data source ``files``: local text, JSONL, JSON, CSV, TSV, Parquet and Arrow, compressed or not."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraft.rows.reader import RowReader
from lmgraft.rows.values import RowError
from lmgraft.seams.data_source import Damaged, Document, Unit

from lmgraft_files.arrow import Arrow
from lmgraft_files.delimited import Delimited
from lmgraft_files.find import find_units, group_of
from lmgraft_files.formats import Format, format_of
from lmgraft_files.json_array import json_table
from lmgraft_files.json_lines import JsonLines
from lmgraft_files.parquet import Parquet
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.table import Table
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

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        """The documents of a unit after its first ``offset``; ids are the unit's id and the number of piece or row,
        damaged ones counted, so that a row that is mended changes no other id.

        Raises Unreadable, naming the file, where the rest of it cannot be read.
        """
        for found in self._read(unit):
            if not offset:
                yield found
            elif isinstance(found, Document):
                offset -= 1

    def _read(self, unit: Unit) -> Iterator[Document | Damaged]:
        table = self._table(unit)
        return self._text(unit) if table is None else self._rows(unit, table)

    def _table(self, unit: Unit) -> Table | None:
        path, config = unit.path or "", self.config
        match format_of(path, config):
            case Format.lines:
                return JsonLines(path, config, unit.start, unit.end)
            case Format.json:
                return json_table(path, config)
            case Format.csv:
                return Delimited(path, config, self.reader, ",")
            case Format.tsv:
                return Delimited(path, config, self.reader, "\t")
            case Format.parquet:
                return Parquet(path, self.reader, unit.start, unit.end)
            case Format.arrow:
                return Arrow(path, self.reader)
        return None

    def _text(self, unit: Unit) -> Iterator[Document | Damaged]:
        for number, text in enumerate(read_pieces(unit.path or "", unit.start, unit.end, self.config)):
            if isinstance(text, Damaged):
                yield text
            else:
                yield Document(id=f"{unit.id}:{number}", text=text, group=group_of(unit))

    def _rows(self, unit: Unit, table: Table) -> Iterator[Document | Damaged]:
        for number, row in enumerate(table.rows()):
            if isinstance(row, Damaged):
                yield row
                continue
            try:
                document = self.reader.document(row.values, f"{unit.id}:{number}")
            except RowError as error:
                yield error.damaged(f"files: {table.where(row.place)}", row.size)
            else:
                yield document
