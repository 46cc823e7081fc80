"""What a document says, whatever its form."""

from __future__ import annotations

from lmgraft.seams.data_source import Document

__all__ = ["said"]


def said(document: Document) -> str:
    """The text; of a chat all turns, of a pair the prompt and both answers, a line break between them."""
    if document.text is not None:
        return document.text
    parts = [document.prompt, document.chosen, document.rejected]
    parts += [message.get("content") for message in document.messages or ()]
    return "\n".join(str(part) for part in parts if part)
