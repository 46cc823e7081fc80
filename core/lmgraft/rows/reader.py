"""One row as one document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraft.rows.chats import BELLE, Messages, answer, asked_before, chat, is_whole, split_pair, transcript
from lmgraft.rows.kinds import KEYS, Rows, RowsConfig
from lmgraft.rows.tools import tools_as_text
from lmgraft.rows.values import RowError, is_plain, named, string
from lmgraft.seams.data_source import Document

__all__ = ["RowReader"]


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

    def __init__(self, config: RowsConfig) -> None:
        self.config = config
        #: Our name of a field -> the key of the row that holds it, possibly dotted.
        self._named = {name.rstrip("?"): self._key(name.rstrip("?")) for name in KEYS[config.rows]}
        needed = [self._named[name] for name in KEYS[config.rows] if not name.endswith("?")]
        #: The keys without which a row is refused, and those that it may lack.
        self.keys: tuple[str, ...] = (*needed, *([] if config.group is None else [config.group]))
        self.optional: tuple[str, ...] = tuple(key for key in self._named.values() if key not in needed)
        # A dotted key takes its whole column: what is read as content is no metadata too.
        self._own = {part for key in (*self.keys, *self.optional) for part in (key, key.split(".")[0])}

    def document(self, row: Mapping[str, Any], name: str) -> Document:
        """``row`` as the document ``name``; other keys with plain values (text, numbers, booleans) become ``meta``.

        Raises RowError where a key is missing or holds something else than expected.
        """
        config = self.config
        group = name if config.group is None else self._group(row, config.group)
        meta = {key: value for key, value in row.items() if key not in self._own and is_plain(key, value)}
        content = _SHAPES[config.rows](self, row)
        meta |= content.pop("meta", {})
        return Document(id=name, group=group, meta=meta, **content)

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
                return RowError(what, cause, f"{self.config.source}.rows={rows.value}", "missing_column")
        hint = f"={close[0]} (did you mean that?)" if close else " to the key that holds it"
        source = self.config.source
        if key == self.config.group:
            return RowError(what, cause, f"set {source}.group{hint}, or to null", "missing_column")
        if self.config.rows is Rows.text:
            return RowError(what, cause, f"set {source}.text{hint}", "missing_column")
        field = next((name for name, ours in self._named.items() if ours == key), key)
        needs = f"{source}.rows={self.config.rows.value} needs {', '.join(self._needed())}"
        return RowError(what, cause, f"{needs}: set {source}.columns.{field}{hint}", "missing_column")

    def _key(self, name: str) -> str:
        return self.config.text if self.config.rows is Rows.text else self.config.columns.get(name, name)

    def text(self, row: Mapping[str, Any], name: str) -> str:
        """The text of a field that must be there."""
        key = self._named[name]
        return string(self.value(row, key), repr(key))

    def maybe(self, row: Mapping[str, Any], name: str) -> Any:
        """A field that may be missing: its value, or None where it is missing, null or empty."""
        key = self._named[name]
        value: Any = row[key] if key in row else _inside(row, key)
        return None if value in (None, _ABSENT, "", []) else value

    def value(self, row: Mapping[str, Any], key: str) -> Any:
        """What a key holds. Raises RowError where it is missing."""
        if key in row:
            return row[key]
        value = _inside(row, key)
        if value is _ABSENT:
            raise self.lacks(key, [str(name) for name in row])
        return value

    def key(self, name: str) -> str:
        """The row's key of a field."""
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
        remedy = "group by a key of texts or numbers"
        raise RowError(f"{key!r} cannot group rows", f"it is {named(value)}", remedy, "wrong_type")


_ABSENT: Any = object()


def _inside(row: Mapping[str, Any], key: str) -> Any:
    """What a dotted key reaches: objects by name, lists by number."""
    value: Any = row
    for part in key.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _text(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": reader.text(row, "text")}


def _messages(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    key = reader.key("messages" if reader.config.rows is Rows.messages else "conversations")
    said = chat(reader.value(row, key), key)
    tools = reader.maybe(row, "tools")
    listed = "" if tools is None else tools_as_text(tools, reader.key("tools"))
    before = _system(reader, row)
    if listed and not before and said[0]["role"] == "system":
        before = [said.pop(0)]
    if listed:
        system = before[0] if before else {"role": "system", "content": ""}
        before = [{**system, "content": "\n\n".join(part for part in (system["content"], listed) if part)}]
    return {"messages": [*before, *said]}


def _alpaca(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """Taori et al. 2023; the input stands below the instruction, after a blank line. ``history`` is LLaMA-Factory's:
    earlier pairs of question and answer."""
    messages = _system(reader, row)
    for number, turn in enumerate(reader.maybe(row, "history") or (), start=1):
        what = f"turn {number} of 'history'"
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            remedy = 'write ["asked", "answered"]'
            raise RowError(f"{what} is no pair", f"it is {named(turn)}", remedy, "wrong_type")
        for role, content in zip(("user", "assistant"), turn, strict=True):
            messages.append({"role": role, "content": string(content, what)})
    asked, answered = _instruction(reader, row), reader.text(row, "output")
    return {"messages": [*messages, {"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def _instruction(reader: RowReader, row: Mapping[str, Any]) -> str:
    asked, more = reader.text(row, "instruction"), reader.maybe(row, "input")
    return asked if more is None else f"{asked}\n\n{string(more, repr(reader.key('input')))}"


def _belle(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """Ji et al. 2023 (arXiv:2303.14742): Alpaca's keys; conversations of several turns stand in the instruction, which
    then ends with an ``Assistant:`` that the output follows."""
    asked, answered = _instruction(reader, row).rstrip(), reader.text(row, "output")
    turns = [{"role": "user", "content": asked}]
    if BELLE.match(asked):
        key = reader.key("instruction")
        turns = transcript(asked, key, BELLE)
        if turns[-1] == {"role": "assistant", "content": ""}:
            turns.pop()
        if not turns or turns[-1]["role"] != "user":
            remedy = "end it with the user's turn, or with an empty one of the assistant"
            raise RowError(f"{key!r} ends with an answer", "the output follows a question", remedy, "bad_transcript")
    return {"messages": [*_system(reader, row), *turns, {"role": "assistant", "content": answered}]}


def _kto(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """Ethayarajh et al. 2024 (arXiv:2402.01306), as TRL writes it: an answer and whether it is wanted."""
    key = reader.key("label")
    label = reader.value(row, key)
    if label not in (True, False):
        remedy = "write true or false, or take the row out"
        raise RowError(f"{key!r} is no label", f"it is {named(label)}", remedy, "bad_label")
    said = reader.maybe(row, "messages")
    if said is not None:
        messages = chat(said, reader.key("messages"))
    else:
        texts = [reader.value(row, reader.key(name)) for name in ("prompt", "completion")]
        messages = []
        for role, name, value in zip(("user", "assistant"), ("prompt", "completion"), texts, strict=True):
            key = reader.key(name)
            turns = (
                chat(value, key) if isinstance(value, list) else [{"role": role, "content": string(value, repr(key))}]
            )
            messages += turns
    return {"messages": [*_system(reader, row), *messages], "meta": {"label": bool(label)}}


def _judged(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """AlpacaEval's and AlpacaFarm's judgements (Dubois et al. 2023, arXiv:2305.14387): a preference of 1 is for the
    first output, of 2 for the second; what lies between leans to the nearer one."""
    key = reader.key("preference")
    value = reader.value(row, key)
    remedy = "write a number from 1 (the first output) to 2 (the second), or take the row out"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 2:
        shown = value if isinstance(value, int | float) else named(value)
        raise RowError(f"{key!r} is no preference", f"it is {shown}", remedy, "bad_label")
    if value == 1.5:
        raise RowError(f"{key!r} prefers neither output", "it is 1.5", remedy, "tie")
    names = ("output_1", "output_2") if value < 1.5 else ("output_2", "output_1")
    chosen, rejected = (reader.text(row, name) for name in names)
    return _pair(_instruction(reader, row), _system(reader, row), chosen, rejected)


def _pairs(reader: RowReader, row: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's forms: the prompt a text or messages; the answers texts, the messages after the prompt, or whole
    conversations, which need no prompt."""
    chosen, rejected = (answer(reader.value(row, reader.key(name)), name) for name in ("chosen", "rejected"))
    shared: Messages = []
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared, chosen, rejected = split_pair(chosen, rejected)
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        cause = "one is a text and the other a conversation"
        raise RowError("'chosen' and 'rejected' are of two kinds", cause, "write both alike", "bad_pair")
    return _pair(_asked(reader, row, shared), _system(reader, row), chosen, rejected)


def _pair(asked: str | Messages, system: Messages, chosen: str, rejected: str) -> dict[str, Any]:
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
    Rows.belle: _belle,
    Rows.sharegpt: _messages,
    Rows.pairs: _pairs,
    Rows.judged: _judged,
    Rows.kto: _kto,
    Rows.hh: _hh,
}
