"""The kinds of rows, and the settings of a source that reads them. Light: a plugin's plugin.py may import it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem

__all__ = ["COLUMNS", "KEYS", "Rows", "RowsConfig"]


class Rows(Enum):
    """What a row is read as."""

    text = "text"
    """A text."""
    messages = "messages"
    """A chat, as OpenAI's messages of role and content, calls of tools among them."""
    alpaca = "alpaca"
    """A chat of one turn: instruction, input, output; with ``history``, of several."""
    belle = "belle"
    """Alpaca's keys; an instruction ``Human:...\\nAssistant:...\\nHuman:...`` becomes so many turns."""
    sharegpt = "sharegpt"
    """A chat, as ShareGPT's conversations of from and value, calls of tools among them."""
    pairs = "pairs"
    """A preference pair: prompt, chosen, rejected; each a text, or messages."""
    judged = "judged"
    """A preference pair from two outputs and a preference between 1 and 2, as AlpacaEval writes them."""
    kto = "kto"
    """A chat with a label, true or false, which becomes ``meta.label``."""
    hh = "hh"
    """A preference pair of transcripts, ``\\n\\nHuman: ...\\n\\nAssistant: ...``, that differ in the last answer."""


KEYS = {
    Rows.text: ("text",),
    Rows.messages: ("messages", "system?", "tools?"),
    Rows.alpaca: ("instruction", "input?", "output", "system?", "history?"),
    Rows.belle: ("instruction", "input?", "output", "system?"),
    Rows.sharegpt: ("conversations", "system?", "tools?"),
    Rows.pairs: ("prompt?", "chosen", "rejected", "system?"),
    Rows.judged: ("instruction", "input?", "output_1", "output_2", "preference", "system?"),
    Rows.kto: ("messages?", "prompt?", "completion?", "label", "system?"),
    Rows.hh: ("chosen", "rejected"),
}
"""The keys of each kind of row, by our names; those that end in ? may be missing. Pairs need a prompt unless their
answers are whole conversations, which hold it; rows of ``kto`` need messages, or a prompt and a completion."""
_CHAT = frozenset({"columns:messages"})
_PAIR = frozenset({"columns:prompt", "columns:chosen", "columns:rejected"})
COLUMNS = {
    Rows.text: frozenset({"columns:text"}),
    **dict.fromkeys((Rows.messages, Rows.alpaca, Rows.belle, Rows.sharegpt, Rows.kto), _CHAT),
    **dict.fromkeys((Rows.pairs, Rows.judged, Rows.hh), _PAIR),
}
"""What each kind provides."""


@dataclass
class RowsConfig(ComponentConfig):
    """Settings of a source of rows. Derive from it, name the source in ``source``, and call ``check_rows`` in
    ``check``."""

    source: ClassVar[str] = "source"
    """The component's name, for messages."""

    rows: Rows = Rows.text
    """``text``: the column named by ``text``. Chats: ``messages`` (role and content), ``alpaca`` (instruction, input,
    output), ``belle`` (the same, an instruction of Human and Assistant being several turns), ``sharegpt``
    (conversations of from and value), ``kto`` (a chat and a label). Preferences: ``pairs`` (prompt, chosen, rejected;
    each a text, or messages), ``judged`` (two outputs, a preference), ``hh`` (transcripts of Human and Assistant)."""
    columns: dict[str, str] = field(default_factory=dict)
    """Where a row keeps its fields under other keys: ``{prompt: question, chosen: response_j}``; ``a.b`` reaches into
    objects, ``a.0`` into lists."""
    text: str = "text"
    """The key that holds the text of a row; ``a.b`` reaches into objects."""
    group: str | None = None
    """The key whose value says which rows belong together when some are held out; null: each row is by itself."""

    def provides(self) -> frozenset[str]:
        """The columns of the documents that such rows become."""
        return COLUMNS[self.rows]

    def check_rows(self) -> Iterator[Problem | str]:
        """Yields what is wrong with the settings above."""
        if not self.text:
            yield "text is empty; it names the key that holds the text of a row"
        names = [name.rstrip("?") for name in KEYS[self.rows]]
        for name, key in self.columns.items():
            if name not in names or self.rows is Rows.text:
                known = f"set {self.source}.text" if self.rows is Rows.text else f"it has {', '.join(names)}"
                yield f"columns names {name!r}, which rows={self.rows.value} has not; {known}"
            elif not key:
                yield f"columns.{name} is empty; it names the key that holds it"
        if self.group == "":
            yield "group is empty; it names a key, or is null"
