"""Chats and answers as data sets write them: messages of role and content (OpenAI's form), of from and value
(ShareGPT's), and transcripts (HH-RLHF's, BELLE's). What comes out has the roles system, user, assistant and tool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lmgraft.rows.tools import calls_as_text
from lmgraft.rows.values import RowError, named, string

__all__ = ["BELLE", "HH", "Messages", "answer", "asked_before", "chat", "is_whole", "split_pair", "transcript"]

Messages = list[dict[str, Any]]

#: Who speaks, by the names that data sets use.
ROLES = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "function_response": "tool",
}  # fmt: skip
#: Speakers of ShareGPT's form whose value is a call.
CALLERS = ("function_call", "tool_call")
_SHAPE = 'write each chat as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
HH = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
"""A turn of HH-RLHF begins."""
BELLE = re.compile(r"(?:\A|\n)[ \t]*(Human|Assistant)[:\uff1a][ \t]*")
"""A turn of BELLE's conversations begins."""


def chat(value: Any, key: str) -> Messages:
    """``value`` as a list of messages with role and content. Raises RowError."""
    if not isinstance(value, list) or not value:
        raise RowError(f"{key!r} is no list of messages", f"it is {named(value)}", _SHAPE, "wrong_type")
    return [_message(message, f"message {number}") for number, message in enumerate(value, start=1)]


def answer(value: Any, key: str) -> str | Messages:
    """A text, one message, or a whole conversation. Raises RowError."""
    if isinstance(value, list):
        return chat(value, key)
    if isinstance(value, Mapping):
        return str(_message(value, repr(key))["content"])
    return string(value, repr(key))


def transcript(text: str, key: str, turn: re.Pattern[str] = HH) -> Messages:
    """``"\\n\\nHuman: ...\\n\\nAssistant: ..."`` as messages; turns of one speaker in a row are one message. Raises
    RowError where it does not begin with a turn."""
    turns = list(turn.finditer(text))
    if not turns or turns[0].start() != 0:
        cause, remedy = f"it begins {text[:30]!r}", 'write it as "\\n\\nHuman: ...\\n\\nAssistant: ..."'
        raise RowError(f"{key!r} is no transcript", cause, remedy, "bad_transcript")
    ends = [found.start() for found in turns[1:]] + [len(text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    messages: Messages = []
    for found, end in zip(turns, ends, strict=True):
        role, content = roles[found[1]], text[found.end() : end].strip()
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
            remedy = "end both conversations with the assistant's turn"
            raise RowError(f"{key!r} ends without an answer", cause, remedy, "bad_pair")
    if chosen[:-1] != rejected[:-1]:
        cause = "the two conversations differ before their last answers"
        fact = "'chosen' and 'rejected' answer different questions"
        raise RowError(fact, cause, "take the row out", "bad_pair")
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
    raise RowError(f"the conversations of 'chosen' and 'rejected' do not hold {key!r}", cause, remedy, "bad_pair")


def _message(message: Any, what: str) -> dict[str, Any]:
    """The keys of a message that hold something: Parquet gives every key to every message."""
    if not isinstance(message, Mapping):
        raise RowError(f"{what} is no object", f"it is {named(message)}", _SHAPE, "wrong_type")
    if "from" in message and "value" in message and "role" not in message:
        who = string(message["from"], f"'from' of {what}")
        if who in CALLERS:
            return {"role": "assistant", "content": calls_as_text(message["value"], f"'value' of {what}")}
        return {"role": _role(who, f"{what} is from"), "content": _content(message["value"], f"'value' of {what}")}
    for key in ("role", "content"):
        if key not in message:
            cause = f"it has {', '.join(map(str, message)) or 'no keys'}"
            raise RowError(f"{what} has no {key!r}", cause, _SHAPE, "missing_column")
    role = _role(string(message["role"], f"'role' of {what}"), f"{what} has the role")
    calls = message.get("tool_calls") or message.get("function_call")
    said = "" if calls and not message["content"] else _content(message["content"], f"'content' of {what}")
    if calls:
        said = "\n".join(part for part in (said, calls_as_text(calls, f"'tool_calls' of {what}")) if part)
    handled = ("role", "content", "tool_calls", "function_call")
    more = {str(key): value for key, value in message.items() if value is not None and key not in handled}
    return {"role": role, "content": said, **more}


def _role(name: str, what: str) -> str:
    if name not in ROLES:
        cause = f"speakers are {', '.join(sorted(ROLES))}"
        raise RowError(f"{what} {name!r}", cause, "rename the speaker, or take the row out", "bad_role")
    return ROLES[name]


def _content(value: Any, what: str) -> str:
    """A text, or a list of OpenAI's parts of the type text."""
    if not isinstance(value, list):
        return string(value, what)
    wrong = next((part for part in value if not isinstance(part, Mapping) or part.get("type") != "text"), None)
    if wrong is not None:
        kind = wrong.get("type") if isinstance(wrong, Mapping) else named(wrong)
        raise RowError(f"{what} is no text", f"a part of it is {kind!r}", "take the row out", "wrong_type")
    return "".join(string(part.get("text"), f"a part of {what}") for part in value)
