"""Which reader a file gets: decided by the ending of its name, never by guessing at its content."""

from __future__ import annotations

from enum import Enum
from pathlib import PurePath

from lmgraft.unpacking import COMPRESSED

from lmgraft_files.plugin import FilesConfig, Rows

__all__ = ["Format", "compression", "format_of", "known_suffixes"]


class Format(Enum):
    text = "text"
    lines = "JSON lines"
    json = "JSON"
    csv = "CSV"
    tsv = "TSV"
    parquet = "Parquet"
    arrow = "Arrow"


TEXT = (".txt", ".md", ".rst", ".text")
ROWS = {
    ".jsonl": Format.lines,
    ".ndjson": Format.lines,
    ".json": Format.json,
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".parquet": Format.parquet,
    ".arrow": Format.arrow,
}
#: They compress by themselves and are read from any place in them.
WHOLE = (Format.parquet, Format.arrow)


def format_of(name: str, config: FilesConfig) -> Format | None:
    """The format of a file of this name, or None where the ending says nothing. Text is no source of chats or pairs."""
    packed = compression(name)
    suffix = PurePath(PurePath(name).stem if packed else name).suffix.lower()
    if config.rows is Rows.text and suffix in _text_suffixes(config):
        return Format.text
    found = ROWS.get(suffix)
    return None if packed and found in WHOLE else found


def compression(name: str) -> str:
    """The ending that says how a file is compressed; empty where it is not."""
    suffix = PurePath(name).suffix.lower()
    return suffix if suffix in COMPRESSED else ""


def known_suffixes(config: FilesConfig) -> list[str]:
    """What is looked for in a folder, for messages."""
    return sorted({*ROWS, *(_text_suffixes(config) if config.rows is Rows.text else ())})


def _text_suffixes(config: FilesConfig) -> set[str]:
    return {*TEXT, *("." + suffix.lower().lstrip(".") for suffix in config.suffixes)}
