"""Documents as a source gives them become the corpus's own: under their full ids, in groups, as UTF-8 can hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_not
from typing import Any

from lmgraft.artifacts.corpus import build_documents
from lmgraft.errors import Fault
from lmgraft.seams.data_source import Document
from lmgraft.stages._corpus_tally import sound

__all__ = ["checked"]

_NOTHING = (None, None, None, None)


def checked(batch: Sequence[Document], source: str, count: dict[str, int]) -> list[Document]:
    """The documents of a source, counted: ``documents``, ``bytes`` of UTF-8, and ``repaired``.

    Raises :class:`Fault` for one that is not exactly one of the forms that a document has, or has no id.
    """
    if all(map(_is_plain, batch)):
        found = _plain(batch, source, count)
    else:
        found = [_checked(document, source, count) for document in batch]
    count["documents"] += len(found)
    count["bytes"] += sum(
        len(text) if (text := document.text) is not None and text.isascii() else document.length() for document in found
    )
    return found


def _is_plain(document: Document) -> bool:
    others = (document.messages, document.prompt, document.chosen, document.rejected)
    return document.text is not None and others == _NOTHING and bool(document.id)


def _plain(batch: Sequence[Document], source: str, count: dict[str, int]) -> list[Document]:
    """As :func:`_checked`, for a batch of nothing but texts: column by column."""
    ids = [f"{source}/{sound(document.id)}" for document in batch]
    given = [document.text or "" for document in batch]
    texts = [sound(text) for text in given]
    count["repaired"] += sum(map(is_not, texts, given))
    groups = [sound(document.group) or name for document, name in zip(batch, ids, strict=True)]
    metas = [document.meta for document in batch]
    return build_documents(len(batch), {"id": ids, "text": texts, "group": groups, "meta": metas})


def _checked(document: Document, source: str, count: dict[str, int]) -> Document:
    """The document under its full id, in a group, with text that UTF-8 can hold."""
    pair = (document.prompt, document.chosen, document.rejected)
    if not (document.id and _one_form(document)):
        raise Fault(
            f"source {source!r} gave document {document.id!r}, which is not exactly one of text, messages and "
            "chosen/rejected after a prompt or messages, or has no id"
        )
    name = f"{source}/{sound(document.id)}"
    content: dict[str, Any] = {"text": document.text}
    if document.text is None:
        messages = None if document.messages is None else list(document.messages)
        content = {"messages": messages, **dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))}
    fixed = {key: _repaired(value) for key, value in content.items()}
    count["repaired"] += fixed != content
    return Document(id=name, group=sound(document.group) or name, meta=document.meta, **fixed)


def _one_form(document: Document) -> bool:
    asked = (document.prompt is not None) + (document.messages is not None)
    if document.chosen is not None or document.rejected is not None:
        return document.text is None and asked == 1
    return (document.text is not None) + asked == 1


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, Mapping):
        return {key: _repaired(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_repaired(item) for item in value]
    return value
