"""One row of a data file as one document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraft.seams.data_source import Document

from lmgraft_files.chats import Messages, answer, asked_before, chat, is_whole, split_pair, transcript
from lmgraft_files.plugin import KEYS, FilesConfig, Rows
from lmgraft_files.values import RowError, is_plain, named, string

__all__ = ["RowError", "RowReader"]


#: What LLaMA-Factory, Stack Exchange's pairs, GPTeacher and their like call our fields.
OTHER_NAMES = {
    "prompt": ("conversations", "messages", "question", "instruction", "query"),
    "chosen": ("response_j", "preferred", "response_chosen"),
    "rejected": ("response_k", "dispreferred", "response_rejected"),
    "output": ("response", "answer", "completion"),
    "instruction": ("question", "query"),
}


class RowReader:
    """Turns rows into documents as the settings say: text, chats or preference pairs."""

    def __init__(self, config: FilesConfig) -> None:
        self.config = config
        #: Our name of a field -> the key of the file that holds it, possibly dotted.
        self._named = {name.rstrip("?"): self._key(name.rstrip("?")) for name in KEYS[config.rows]}
        needed = [self._named[name] for name in KEYS[config.rows] if not name.endswith("?")]
        #: The keys without which a row is refused, and those that it may lack.
        self.keys: tuple[str, ...] = (*needed, *([] if config.group is None else [config.group]))
        self.optional: tuple[str, ...] = tuple(key for key in self._named.values() if key not in needed)

    def document(self, row: Mapping[str, Any], name: str) -> Document:
        """``row`` as the document ``name``; other keys with plain values (text, numbers, booleans) become ``meta``.

        Raises RowError where a key is missing or holds something else than expected.
        """
        config = self.config
        group = name if config.group is None else self._group(row, config.group)
        own = {*self.keys, *self.optional}
        meta = {key: value for key, value in row.items() if key not in own and is_plain(key, value)}
        return Document(id=name, group=group, meta=meta, **_SHAPES[config.rows](self, row))

    def lacks(self, key: str, present: Sequence[str]) -> RowError:
        """The complaint about a row that has the keys ``present`` and not ``key``."""
        what = f"the row has no {key!r}"
        cause = f"it has {', '.join(sorted(present)[:12]) or 'no keys at all'}"
        close = difflib.get_close_matches(key, present, n=1, cutoff=0.6)
        # What other tools call it, before another kind of row is guessed at.
        close = close or [name for name in OTHER_NAMES.get(key, ()) if name in present][:1]
        for rows, names in KEYS.items():
            needed = {name for name in names if not name.endswith("?") or name == "prompt?"}
            if not close and rows is not self.config.rows and needed <= set(present):
                return RowError(what, cause, f"files.rows={rows.value}")
        hint = f"={close[0]} (did you mean that?)" if close else " to the key that holds it"
        if key == self.config.group:
            return RowError(what, cause, f"set files.group{hint}, or to null")
        if self.config.rows is Rows.text:
            return RowError(what, cause, f"set files.text{hint}")
        field = next((name for name, ours in self._named.items() if ours == key), key)
        needs = f"files.rows={self.config.rows.value} needs {', '.join(self._needed())}"
        return RowError(what, cause, f"{needs}: set files.columns.{field}{hint}")

    def _key(self, name: str) -> str:
        return self.config.text if self.config.rows is Rows.text else self.config.columns.get(name, name)

    def text(self, row: Mapping[str, Any], name: str) -> str:
        """The text of a field that must be there."""
        key = self._named[name]
        return string(self.value(row, key), repr(key))

    def maybe(self, row: Mapping[str, Any], name: str) -> Any:
        """A field that may be missing: its value, or None where it is missing, null or empty."""
        value: Any = row
        for part in self._named[name].split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return None if value in (None, "", []) else value

    def value(self, row: Mapping[str, Any], key: str) -> Any:
        if key in row:
            return row[key]
        value: Any = row
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise self.lacks(key, [str(name) for name in row])
            value = value[part]
        return value

    def key(self, name: str) -> str:
        return self._named[name]

    def _needed(self) -> list[str]:
        """The keys of a row's fields, in our order."""
        names = [name for name in KEYS[self.config.rows] if not name.endswith("?") or name == "prompt?"]
        return [self._named[name.rstrip("?")] for name in names]

    def _group(self, row: Mapping[str, Any], key: str) -> str:
        value = self.value(row, key)
        if isinstance(value, str):
            return string(value, repr(key))
        if isinstance(value, int | float):
            return str(value)
        raise RowError(f"{key!r} cannot group rows", f"it is {named(value)}", "group by a key of texts or numbers")


def _text(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": reader.text(row, "text")}


def _messages(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    key = reader.key("messages" if reader.config.rows is Rows.messages else "conversations")
    return {"messages": [*_system(reader, row), *chat(reader.value(row, key), key)]}


def _alpaca(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """Taori et al. 2023; the input stands below the instruction, after a blank line. ``history`` is LLaMA-Factory's:
    earlier pairs of question and answer."""
    messages = _system(reader, row)
    for number, turn in enumerate(reader.maybe(row, "history") or (), start=1):
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise RowError(
                f"turn {number} of 'history' is no pair", f"it is {named(turn)}", 'write ["asked", "answered"]'
            )
        for role, content in zip(("user", "assistant"), turn, strict=True):
            messages.append({"role": role, "content": string(content, f"turn {number} of 'history'")})
    more = reader.maybe(row, "input")
    asked = reader.text(row, "instruction")
    if more is not None:
        asked = f"{asked}\n\n{string(more, repr(reader.key('input')))}"
    answered = reader.text(row, "output")
    return {"messages": [*messages, {"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def _pairs(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's forms: the prompt a text or messages; the answers texts, the messages after the prompt, or whole
    conversations, which need no prompt."""
    chosen, rejected = (answer(reader.value(row, reader.key(name)), name) for name in ("chosen", "rejected"))
    shared: Messages = []
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared, chosen, rejected = split_pair(chosen, rejected)
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        cause = "one is a text and the other a conversation"
        raise RowError("'chosen' and 'rejected' are of two kinds", cause, "write both alike")
    asked = _asked(reader, row, shared)
    system = _system(reader, row)
    if isinstance(asked, str) and not system:
        return {"prompt": asked, "chosen": chosen, "rejected": rejected}
    before = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if before[:1] != system:
        before = [*system, *before]
    return {"messages": before, "chosen": chosen, "rejected": rejected}


def _asked(reader: RowReader, row: Mapping[str, Any], shared: Messages) -> str | Messages:
    """What both answers follow: the prompt, or the conversation ``shared`` by both, or one after the other."""
    key = reader.key("prompt")
    if is_whole(shared) and not isinstance(reader.maybe(row, "prompt"), list):
        return shared  # its own question, which a prompt of text would repeat
    prompt = reader.value(row, key)
    if isinstance(prompt, list):
        return asked_before(chat(prompt, key), shared, key)
    text = string(prompt, repr(key))
    return asked_before([{"role": "user", "content": text}], shared, key) if shared else text


def _hh(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """Bai et al. 2022 (arXiv:2204.05862): two transcripts that differ in their last answer."""
    chosen, rejected = (transcript(reader.text(row, name), name) for name in ("chosen", "rejected"))
    before, good, bad = split_pair(chosen, rejected)
    return {"messages": before, "chosen": good, "rejected": bad}


def _system(reader: RowReader, row: Mapping[str, Any]) -> Messages:
    value = reader.maybe(row, "system")
    return [] if value is None else [{"role": "system", "content": string(value, repr(reader.key("system")))}]


_SHAPES = {
    Rows.text: _text,
    Rows.messages: _messages,
    Rows.alpaca: _alpaca,
    Rows.sharegpt: _messages,
    Rows.pairs: _pairs,
    Rows.hh: _hh,
}
