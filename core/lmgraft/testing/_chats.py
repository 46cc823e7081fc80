"""Whether a sequence begins as a prompt does that text generation writes by the same chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft import chat
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Example
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["unlike_prompt"]


def unlike_prompt(row: Document, example: Example, tokenizer: TextTokenizer, template: str) -> str:
    """Where ``example`` parts from the prompt of ``row``'s last answer; empty where it begins with it."""
    before = _asked(row)
    if not before:
        return ""
    try:
        prompt = chat.encode_prompt(before, tokenizer, template)
    except UserError as error:
        return f"the template cannot write its prompt: {error.problems[0].cause}"
    if example.tokens[: len(prompt)] == prompt:
        return ""
    return (
        f"generation would prompt {tokenizer.decode(prompt)[-60:]!r}, "
        f"and it is trained on {tokenizer.decode(example.tokens[: len(prompt)])[-60:]!r}"
    )


def _asked(row: Document) -> list[Mapping[str, Any]]:
    """The conversation up to the last answer."""
    if row.chosen is not None:
        return list(row.messages or ()) or [{"role": "user", "content": row.prompt}]
    said = list(row.messages or ())
    while said and said[-1].get("role") != "assistant":
        said.pop()
    return said[:-1]
