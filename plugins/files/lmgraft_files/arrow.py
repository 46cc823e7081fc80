"""Arrow IPC files, and streams as ``datasets`` writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
from lmgraft.errors import Problem
from lmgraft.rows.reader import RowReader
from lmgraft.seams.data_source import Damaged, Unreadable

from lmgraft_files.columnar import columns_of, rows_of
from lmgraft_files.table import Row

__all__ = ["Arrow"]

MAGIC = b"ARROW1"
#: What closes a stream: a message of no length. A stream without it may have been cut between two messages.
END = b"\xff\xff\xff\xff\0\0\0\0"


class Arrow:
    """Batch after batch, read from the file's pages in memory. A place is a row's number in the file, from 0."""

    def __init__(self, path: str, reader: RowReader) -> None:
        self.path, self.reader = path, reader

    def rows(self) -> Iterator[Row | Damaged]:
        first = 0
        try:
            for batch in self._batches():
                yield from rows_of(batch, first, self.path)
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise Unreadable("bad_arrow", self._broken(str(error))) from None

    def where(self, place: int) -> str:
        return f"{self.path} (row {place + 1})"

    def _batches(self) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.memory_map(self.path) as source:
            if source.read(len(MAGIC)) == MAGIC:
                with pa.ipc.open_file(source, options=options) as file:
                    columns = columns_of(file.schema, self.reader, self.path)
                    for number in range(file.num_record_batches):
                        yield file.get_batch(number).select(columns)
                return
            source.seek(0)
            with pa.ipc.open_stream(source, options=options) as stream:
                columns = columns_of(stream.schema, self.reader, self.path)
                for batch in stream:
                    yield batch.select(columns)
        if not self._is_closed():
            raise Unreadable("truncated", self._broken("it ends without the mark that closes a stream"))

    def _is_closed(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.path) - len(END)))
            return file.read() == END

    def _broken(self, cause: str) -> Problem:
        fact = f"files: {self.path} cannot be read as Arrow"
        return Problem(fact, cause, "fetch or make the file again; a file that is no Arrow needs another ending")
