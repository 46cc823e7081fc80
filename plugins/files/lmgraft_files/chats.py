"""Chats and answers as files write them: messages of role and content (OpenAI's form), of from and value (ShareGPT's),
and transcripts (HH-RLHF's)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lmgraft_files.values import RowError, named, string

__all__ = ["Messages", "answer", "asked_before", "chat", "is_whole", "split_pair", "transcript"]

Messages = list[dict[str, Any]]

#: Who speaks, by the names that files use.
ROLES = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant",
    "system": "system",
}  # fmt: skip
_SHAPE = 'write each chat as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")


def chat(value: Any, key: str) -> Messages:
    """``value`` as a list of messages with role and content. Raises RowError."""
    if not isinstance(value, list) or not value:
        raise RowError(f"{key!r} is no list of messages", f"it is {named(value)}", _SHAPE)
    return [_message(message, f"message {number}") for number, message in enumerate(value, start=1)]


def answer(value: Any, key: str) -> str | Messages:
    """A text, one message, or a whole conversation. Raises RowError."""
    if isinstance(value, list):
        return chat(value, key)
    if isinstance(value, Mapping):
        return str(_message(value, repr(key))["content"])
    return string(value, repr(key))


def transcript(text: str, key: str) -> Messages:
    """``"\\n\\nHuman: ...\\n\\nAssistant: ..."`` as messages; turns of one speaker in a row are one message. Raises
    RowError where it does not begin with a turn."""
    turns = list(_TURN.finditer(text))
    if not turns or turns[0].start() != 0:
        cause = f"it begins {text[:30]!r}"
        raise RowError(f"{key!r} is no transcript", cause, 'write it as "\\n\\nHuman: ...\\n\\nAssistant: ..."')
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    messages: Messages = []
    for turn, end in zip(turns, ends, strict=True):
        role, content = roles[turn[1]], text[turn.end() : end].strip()
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n\n" + content
        else:
            messages.append({"role": role, "content": content})
    return messages


def split_pair(chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """(conversation, chosen, rejected): what two whole conversations share, and the answer that ends each.

    Raises RowError where they differ before their last messages, or do not end with the assistant's.
    """
    for key, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1]["role"] != "assistant":
            cause = f"its last message is the {messages[-1]['role']}'s"
            raise RowError(f"{key!r} ends without an answer", cause, "end both conversations with the assistant's turn")
    if chosen[:-1] != rejected[:-1]:
        cause = "the two conversations differ before their last answers"
        raise RowError("'chosen' and 'rejected' answer different questions", cause, "take the row out")
    return chosen[:-1], str(chosen[-1]["content"]), str(rejected[-1]["content"])


def is_whole(messages: Messages) -> bool:
    """Whether a conversation begins with a question: answers alone begin with the assistant's words."""
    said = [message["role"] for message in messages if message["role"] != "system"]
    return bool(said) and said[0] != "assistant"


def asked_before(prompt: Messages, shared: Messages, key: str) -> Messages:
    """The conversation before two answers, from the prompt's messages and those that the answers ``shared``: these go
    on after the prompt, or repeat it. Raises RowError where they do neither."""
    starts = range(len(shared) - len(prompt) + 1)
    if any(shared[start : start + len(prompt)] == prompt for start in starts):
        return shared
    if not is_whole(shared):
        system = [] if shared[:1] == prompt[:1] else [m for m in shared[:1] if m["role"] == "system"]
        return [*system, *prompt, *(m for m in shared if m["role"] != "system")]
    cause = f"they begin {str(shared[0]['content'])[:30]!r}, it begins {str(prompt[0]['content'])[:30]!r}"
    remedy = "take the row out, or write the messages after the prompt alone"
    raise RowError(f"the conversations of 'chosen' and 'rejected' do not hold {key!r}", cause, remedy)


def _message(message: Any, what: str) -> dict[str, Any]:
    """The keys of a message that hold something: Parquet gives every key to every message."""
    if not isinstance(message, Mapping):
        raise RowError(f"{what} is no object", f"it is {named(message)}", _SHAPE)
    if "from" in message and "value" in message and "role" not in message:
        who = string(message["from"], f"'from' of {what}")
        if who not in ROLES:
            cause = f"speakers are {', '.join(sorted(set(ROLES)))}"
            raise RowError(f"{what} is from {who!r}", cause, "rename the speaker, or take the row out")
        return {"role": ROLES[who], "content": string(message["value"], f"'value' of {what}")}
    for key in ("role", "content"):
        if key not in message:
            raise RowError(f"{what} has no {key!r}", f"it has {', '.join(map(str, message)) or 'no keys'}", _SHAPE)
    string(message["role"], f"'role' of {what}")
    if message["content"] is not None or not message.get("tool_calls"):  # a call of a tool may come without words
        string(message["content"], f"'content' of {what}")
    return {str(key): value for key, value in message.items() if value is not None or key == "content"}
