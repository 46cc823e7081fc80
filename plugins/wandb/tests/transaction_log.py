"""Reads what wandb keeps of a run: LevelDB's log format behind a header of seven bytes, wandb's own messages in it.

Format: https://github.com/google/leveldb/blob/main/doc/log_format.md, with zlib's CRC-32 as wandb writes it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Kept", "kept", "records"]

HEADER, BLOCK, HEAD = 7, 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """wandb's records in order, up to the last whole one."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:HEADER] == b":W&B" + struct.pack("<HB", 0xBEE1, 0), data[:HEADER]
    place, whole = HEADER, b""
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:  # too short for a head: padding
            place += BLOCK - place % BLOCK
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + HEAD])
        part = data[place + HEAD : place + HEAD + size]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(part) < size:
            return
        whole = part if kind in (FULL, FIRST) else whole + part
        place += HEAD + size
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record


class Kept:
    """One run as its file tells it."""

    def __init__(self, path: Path) -> None:
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str] = {}
        self.exit: int | None = None
        for record in records(path):
            getattr(self, f"_{record.WhichOneof('record_type')}", lambda record: None)(record)

    def _run(self, record: Any) -> None:
        self.run = record.run
        self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}

    def _config(self, record: Any) -> None:
        self.config |= {item.key: json.loads(item.value_json) for item in record.config.update}

    def _history(self, record: Any) -> None:
        self.history.append(_items(record.history.item))

    def _summary(self, record: Any) -> None:
        self.summary |= _items(record.summary.update)

    def _metric(self, record: Any) -> None:
        self.axes[record.metric.glob_name] = record.metric.step_metric

    def _exit(self, record: Any) -> None:
        self.exit = record.exit.exit_code

    def curve(self, stage: str, name: str) -> dict[int, float]:
        """Step -> value."""
        rows = [row for row in self.history if f"{stage}/{name}" in row]
        return {row[f"{stage}/step"]: row[f"{stage}/{name}"] for row in rows}


def kept(run: Path) -> list[Kept]:
    """What each attempt at a run left in its directory, the first one first."""
    files = (run / "wandb").glob("*run-*/run-*.wandb")
    return [Kept(file) for file in sorted(files, key=lambda file: file.parent.name.partition("run-")[2])]


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
