"""One row of a data file as one document."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraft.seams.data_source import Document

from lmgraft_files.plugin import FilesConfig, Rows

__all__ = ["RowError", "RowReader"]

PAIR = ("prompt", "chosen", "rejected")


class RowError(Exception):
    """A row that is no document; whoever knows the file and the line makes a UserError of it."""

    def __init__(self, what: str, cause: str, remedy: str) -> None:
        super().__init__(what, cause, remedy)
        self.what, self.cause, self.remedy = what, cause, remedy


class RowReader:
    """Turns rows into documents as the settings say: text, chats or preference pairs."""

    def __init__(self, config: FilesConfig) -> None:
        self.config = config
        keys = {Rows.text: (config.text,), Rows.messages: ("messages",), Rows.pairs: PAIR}[config.rows]
        #: The keys, possibly dotted, without which a row is refused.
        self.keys: tuple[str, ...] = keys if config.group is None else (*keys, config.group)

    def document(self, row: Mapping[str, Any], name: str) -> Document:
        """``row`` as the document ``name``; other keys with plain values (text, numbers, booleans) become ``meta``.

        Raises RowError where a key is missing or holds something else than expected.
        """
        config = self.config
        group = name if config.group is None else self._group(row, config.group)
        meta = {key: value for key, value in row.items() if key not in self.keys and _is_plain(key, value)}
        if config.rows is Rows.messages:
            return Document(id=name, messages=self._messages(row), group=group, meta=meta)
        if config.rows is Rows.pairs:
            prompt, chosen, rejected = (self._text(row, key) for key in PAIR)
            return Document(id=name, prompt=prompt, chosen=chosen, rejected=rejected, group=group, meta=meta)
        return Document(id=name, text=self._text(row, config.text), group=group, meta=meta)

    def lacks(self, key: str, present: Sequence[str]) -> RowError:
        """The complaint about a row that has the keys ``present`` and not ``key``."""
        what = f"the row has no {key!r}"
        cause = f"it has {', '.join(sorted(present)[:12]) or 'no keys at all'}"
        for rows, keys in ((Rows.text, ("text",)), (Rows.messages, ("messages",)), (Rows.pairs, PAIR)):
            if rows is not self.config.rows and set(keys) <= set(present):
                return RowError(what, cause, f"files.rows={rows.value}")
        close = difflib.get_close_matches(key, present, n=1, cutoff=0.6)
        hint = f"={close[0]} (did you mean that?)" if close else " to the key that holds it"
        if key == self.config.group:
            return RowError(what, cause, f"set files.group{hint}, or to null")
        if self.config.rows is Rows.text:
            return RowError(what, cause, f"set files.text{hint}")
        return RowError(
            what, cause, f"files.rows={self.config.rows.value} needs {', '.join(self.keys)}: rename the keys"
        )

    def _get(self, row: Mapping[str, Any], key: str) -> Any:
        if key in row:
            return row[key]
        value: Any = row
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise self.lacks(key, [str(name) for name in row])
            value = value[part]
        return value

    def _text(self, row: Mapping[str, Any], key: str) -> str:
        return _string(self._get(row, key), repr(key))

    def _group(self, row: Mapping[str, Any], key: str) -> str:
        value = self._get(row, key)
        if isinstance(value, str):
            return _string(value, repr(key))
        if isinstance(value, int | float):
            return str(value)
        raise RowError(f"{key!r} cannot group rows", f"it is {_named(value)}", "group by a key of texts or numbers")

    def _messages(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        messages = self._get(row, "messages")
        if not isinstance(messages, list) or not messages:
            raise RowError("'messages' is no list of messages", f"it is {_named(messages)}", _SHAPE)
        return [_message(message, f"message {number}") for number, message in enumerate(messages, start=1)]


_SHAPE = 'write each chat as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


def _message(message: Any, what: str) -> dict[str, Any]:
    """The keys of a message that hold something: Parquet gives every key to every message."""
    if not isinstance(message, Mapping):
        raise RowError(f"{what} is no object", f"it is {_named(message)}", _SHAPE)
    for key in ("role", "content"):
        if key not in message:
            raise RowError(f"{what} has no {key!r}", f"it has {', '.join(map(str, message)) or 'no keys'}", _SHAPE)
    _string(message["role"], f"'role' of {what}")
    if message["content"] is not None or not message.get("tool_calls"):  # a call of a tool may come without words
        _string(message["content"], f"'content' of {what}")
    return {str(key): value for key, value in message.items() if value is not None or key == "content"}


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{what} is no text", f"it is {_named(value)}", "take the row out, or write a text there")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            cause = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot hold"
            raise RowError(f"{what} is no valid Unicode", cause, "take the escape such as \\ud83d out") from None
    return value


def _is_plain(key: str, value: Any) -> bool:
    if isinstance(value, str):
        _string(value, repr(key))
        return True
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _named(value: Any) -> str:
    """A value as JSON's users call it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    if value == []:
        return "an empty list"
    return "null" if value is None else names.get(type(value), type(value).__name__)
