"""Documents as rows of a corpus: Arrow batches there and back, column by column."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import repeat
from json import encoder
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmgraft.errors import Fault
from lmgraft.seams.data_source import Document

__all__ = ["CONTENT", "EXTRA", "MESSAGE", "SCHEMA", "build_documents", "from_batch", "sizes", "to_batch"]

CONTENT = ("text", "messages", "prompt", "chosen", "rejected")
EXTRA = "messages.extra"
"""Stands among the content columns where messages have more keys than role and content."""
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", pa.string())])
"""``extra``: a message's other keys (tool calls, weights), and content that is no string, as JSON."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("source", pa.string()),
        ("group", pa.string()),
        ("meta", pa.string()),
    ]
)
"""Every column a corpus may have."""
_C_ENCODER: Any = getattr(encoder, "c_make_encoder", None)
if _C_ENCODER is not None:  # markers, default, quoted strings, indent, separators, sort_keys, skipkeys, allow_nan
    _DEFAULT = json.JSONEncoder().default
    _C_ENCODER = _C_ENCODER(None, _DEFAULT, encoder.encode_basestring, None, ":", ",", True, False, True)
_DECODE = json.JSONDecoder().raw_decode
_SLOTS = {spec.name: getattr(Document, spec.name).__set__ for spec in fields(Document)}
_new = object.__new__


def to_batch(documents: Sequence[Document], source: str) -> pa.RecordBatch:
    """Documents of one source as columns of :data:`SCHEMA`; ids are taken as they are.

    A document without a group becomes a group of its own. Raises :class:`Fault` for a document with metadata that is
    not JSON or messages that are not mappings with a role.
    """
    columns: dict[str, Any] = {
        "id": [document.id for document in documents],
        "messages": [_messages(document) for document in documents],
        "source": [source] * len(documents),
        "group": [document.group or document.id for document in documents],
        "meta": [_json(document.meta, document) if document.meta else "{}" for document in documents],
    }
    for name in ("text", "prompt", "chosen", "rejected"):
        columns[name] = list(map(attrgetter(name), documents))
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def from_batch(batch: pa.RecordBatch) -> list[Document]:
    """The documents of a batch; columns that it lacks leave their fields empty."""
    names = [name for name in ("id", *CONTENT, "group", "meta") if name in batch.schema.names]
    columns = {name: _values(batch.column(name)) for name in names}
    if any(columns.get("meta", ())):
        columns["meta"] = [_parse(meta) if meta and meta != "{}" else {} for meta in columns["meta"]]
    if any(columns.get("messages", ())):
        columns["messages"] = [turns and [_turn(turn) for turn in turns] for turns in columns["messages"]]
    return build_documents(batch.num_rows, columns)


def build_documents(count: int, columns: Mapping[str, Iterable[Any]]) -> list[Document]:
    """Documents from their fields' values, each of ``count``; fields that are not there are empty.

    A frozen dataclass sets field by field through ``object.__setattr__``, which is most of what a document costs; the
    slots' own setters do the same for a whole column in C.
    """
    documents = [_new(Document) for _ in range(count)]
    for name, put in _SLOTS.items():
        values = columns.get(name)
        if values is None:
            values = ({} for _ in range(count)) if name == "meta" else repeat("" if name == "group" else None, count)
        deque(map(put, documents, values), maxlen=0)
    return documents


def _parse(meta: str) -> Any:
    try:
        value, end = _DECODE(meta)
    except ValueError:
        end = -1
    return value if end == len(meta) else json.loads(meta)  # another writer's spaces


def sizes(batch: pa.RecordBatch, characters: bool = False) -> np.ndarray[Any, np.dtype[np.int64]]:
    """UTF-8 bytes (or characters) of all text of each row, int64 (rows,)."""
    length = pc.utf8_length if characters else pc.binary_length
    totals = np.zeros(batch.num_rows, np.int64)
    for name in CONTENT:
        if name not in batch.schema.names or batch.column(name).null_count == batch.num_rows:
            continue
        column = batch.column(name)
        if name == "messages":
            contents = column.flatten().field("content")
            np.add.at(totals, pc.list_parent_indices(column).to_numpy(), pc.fill_null(length(contents), 0).to_numpy())
        else:
            totals += pc.fill_null(length(column), 0).to_numpy()
    return totals


def _values(column: pa.Array) -> list[Any]:
    if column.null_count == len(column):
        return [None] * len(column)
    values: list[Any] = column.to_pylist()
    return values


def _messages(document: Document) -> list[dict[str, Any]] | None:
    if document.messages is None:
        return None
    rows = []
    for message in document.messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise Fault(f"document {document.id!r}: a message must be a mapping with a role, not {message!r:.80}")
        content = message.get("content")
        known = ("role", "content") if content is None or isinstance(content, str) else ("role",)
        extra = {name: value for name, value in message.items() if name not in known}
        rows.append(
            {
                "role": message["role"],
                "content": content if "content" in known else None,
                "extra": _json(extra, document) if extra else None,
            }
        )
    return rows


def _turn(row: Mapping[str, Any]) -> dict[str, Any]:
    extra = row.get("extra")
    return {"role": row["role"], "content": row["content"], **(json.loads(extra) if extra else {})}


def _json(value: Mapping[str, Any], document: Document) -> str:
    try:
        text = "".join(_encode(value))
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Fault(f"document {document.id!r}: its metadata is not JSON ({error})") from error
    return text


def _encode(value: Any) -> Iterable[str]:
    """What ``json`` does for each call is half of what a small object costs: its C encoder is made once."""
    if _C_ENCODER is None:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    found: Iterable[str] = _C_ENCODER(value, 0)
    return found
