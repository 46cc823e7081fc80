"""Which reader a file gets: decided by the ending of its name, never by guessing at its content."""

from __future__ import annotations

from enum import Enum
from pathlib import PurePath

from lmgraft_files.plugin import FilesConfig, Rows

__all__ = ["Format", "format_of", "is_compressed", "known_suffixes"]


class Format(Enum):
    text = "text"
    lines = "JSON lines"
    json = "JSON"
    parquet = "Parquet"


COMPRESSED = (".gz", ".zst")
TEXT = (".txt", ".md", ".rst", ".text")
ROWS = {".jsonl": Format.lines, ".ndjson": Format.lines, ".json": Format.json, ".parquet": Format.parquet}


def format_of(name: str, config: FilesConfig) -> Format | None:
    """The format of a file of this name, or None where the ending says nothing. Text is no source of chats or pairs."""
    suffix = PurePath(name).suffix.lower()
    if suffix in COMPRESSED:
        suffix = PurePath(PurePath(name).stem).suffix.lower()
        if suffix == ".parquet":  # Parquet compresses by itself and is read from its end
            return None
    if config.rows is Rows.text and suffix in _text_suffixes(config):
        return Format.text
    return ROWS.get(suffix)


def is_compressed(name: str) -> bool:
    return name.lower().endswith(COMPRESSED)


def known_suffixes(config: FilesConfig) -> list[str]:
    """What is looked for in a folder, for messages."""
    return sorted({*ROWS, *(_text_suffixes(config) if config.rows is Rows.text else ())})


def _text_suffixes(config: FilesConfig) -> set[str]:
    return {*TEXT, *("." + suffix.lower().lstrip(".") for suffix in config.suffixes)}
