"""What a document may be, as corpora and objectives take it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged, Document

__all__ = ["COLUMNS", "fault", "plain", "texts_of"]

#: What a source can promise of its documents.
COLUMNS = frozenset({"text", "messages", "prompt", "chosen", "rejected"})


def plain(document: Document | Damaged) -> list[Any]:
    """A document (or what is damaged in its place) as values that compare and print."""
    if isinstance(document, Damaged):
        return ["damaged", document.reason, document.bytes]
    said = None if document.messages is None else [dict(message) for message in document.messages]
    answers = [document.prompt, document.chosen, document.rejected]
    return [document.id, document.text, said, *answers, document.group, dict(document.meta)]


def texts_of(document: Document) -> list[str]:
    """All its texts: of a plain document one, of a conversation each message, of a pair the prompt and both answers."""
    said = [message.get("content") for message in document.messages or ()]
    found = [document.text, *said, document.prompt, document.chosen, document.rejected]
    return [text for text in found if isinstance(text, str)]


def fault(document: Any, columns: frozenset[str]) -> Problem | None:
    """What is wrong with a document of a source that promises ``columns``; None where nothing is."""
    if not isinstance(document, Document):
        cause = f"it is a {type(document).__name__}"
        return Problem("read() yields something else than documents", cause, "yield lmgraft's Document objects")
    if not isinstance(document.id, str) or not document.id:
        return Problem(f"a document has the id {document.id!r}", "ids are text", "name each one within its source")
    return next(_faults(document, columns), None)


def _faults(document: Document, columns: frozenset[str]) -> Iterator[Problem]:
    name = f"document {document.id!r}"
    for column in sorted(columns & COLUMNS):
        value = getattr(document, column)
        if column == "prompt" and value is None:
            value = document.messages  # the prompt of a pair may be a conversation
        if value is None:
            cause = f"provides() promises columns:{column}, and it has {', '.join(_has(document)) or 'nothing'}"
            yield Problem(f"{name} has no {column}", cause, "leave the row out, or promise what all documents have")
    yield from _shape(document, name)
    for field, text in _named_texts(document):
        if not isinstance(text, str):
            yield Problem(f"{name}: its {field} is a {type(text).__name__}", "it must be text", "decode it first")
        elif not _is_unicode(text):
            cause = "it holds half of a surrogate pair, which UTF-8 cannot write"
            yield Problem(f"{name}: its {field} is no valid Unicode", cause, "raise a UserError that names the line")
    yield from _meta(document, name)


def _has(document: Document) -> list[str]:
    return [column for column in sorted(COLUMNS) if getattr(document, column) is not None]


def _shape(document: Document, name: str) -> Iterator[Problem]:
    pair = {"chosen", "rejected"}
    has = set(_has(document))
    shapes: tuple[set[str], ...] = ({"text"}, {"messages"}, {"prompt", *pair}, {"messages", *pair})
    if has not in shapes:
        cause = f"it has {', '.join(sorted(has)) or 'neither text nor messages nor a pair'}"
        remedy = "give text; or messages; or chosen and rejected after a prompt or after messages"
        yield Problem(f"{name} is neither a text nor a conversation nor a pair", cause, remedy)
    for number, message in enumerate(document.messages or (), 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            remedy = 'write each as {"role": "user", "content": "..."}'
            yield Problem(f"{name}: message {number} has no role or no content", f"it is {message!r}", remedy)


def _named_texts(document: Document) -> Iterator[tuple[str, Any]]:
    yield "group", document.group
    for column in ("text", "prompt", "chosen", "rejected"):
        if getattr(document, column) is not None:
            yield column, getattr(document, column)
    for number, message in enumerate(document.messages or (), 1):
        if isinstance(message, Mapping) and message.get("content") is not None:
            yield f"message {number}", message["content"]


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _meta(document: Document, name: str) -> Iterator[Problem]:
    remedy = "keep text, numbers, booleans, lists and mappings with text as keys"
    try:
        back = json.loads(json.dumps(dict(document.meta), allow_nan=False))
    except (TypeError, ValueError) as error:
        yield Problem(f"{name}: its meta is not JSON", str(error), remedy)
        return
    if back != document.meta:
        yield Problem(f"{name}: its meta changes in JSON", f"{dict(document.meta)!r} becomes {back!r}", remedy)
