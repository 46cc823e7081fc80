"""A conversation that is kept: what was said, what of it still fits the model's context, and its file."""

from __future__ import annotations

from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.generation.jsonl import json_line
from lmgraft.generation.prompts import Prompts

__all__ = ["Conversation"]

Message = dict[str, str]


class Conversation:
    """Turns of a user and an assistant below a system message.

    Whatever no longer fits the context is left out of what the model reads, the oldest turns first; it stays part of
    what is saved.
    """

    def __init__(self, asked: Prompts, context: int, system: str | None = None) -> None:
        self._asked = asked
        self._context = context
        self._turns: list[tuple[str, str]] = []
        self.system = system
        """The system message; None: none."""
        self.left_out = 0
        """So many first turns are no longer read by the model."""

    def __len__(self) -> int:
        """Turns: a question and its answer each."""
        return len(self._turns)

    def ids(self, question: str, room: int) -> list[int]:
        """What the model reads in order to answer ``question`` in up to ``room`` tokens.

        Turns are left out until half of the context, or ``room`` where that is less, is free for the answer.

        :raises UserError: the question alone is too long, or the template cannot write the conversation.
        """
        limit = self._context - min(room, self._context // 2)
        first = self.left_out
        while True:
            ids = self._asked.chat(self.messages(first, question))
            if len(ids) <= limit or first == len(self._turns):
                break
            first += 1
        if len(ids) >= self._context:
            cause = f"with what stands before it it is {len(ids)} tokens and the model's context is {self._context}"
            raise UserError(Problem("the message is too long", cause, "shorten it"))
        self.left_out = first
        return ids

    def add(self, question: str, answer: str) -> None:
        """A turn that was had."""
        self._turns.append((question, answer))

    def reset(self) -> None:
        """Forgets all turns; the system message stays."""
        self._turns.clear()
        self.left_out = 0

    def messages(self, first: int = 0, question: str | None = None) -> list[Message]:
        """The conversation from turn ``first`` on, and a question behind it."""
        said = [{"role": "system", "content": self.system}] if self.system is not None else []
        for asked, answered in self._turns[first:]:
            said += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return [*said, {"role": "user", "content": question}] if question is not None else said

    def save(self, file: Path) -> int:
        """Adds the conversation as a line ``{"messages": [...]}`` to a JSONL file, which corpus stages read with
        ``rows: messages``; gives the number of lines that the file then has.

        :raises UserError: nothing was said, or the file cannot be written.
        """
        if not self._turns:
            raise UserError(Problem(f"/save {file}", "nothing has been said yet", "say something first"))
        line = json_line({"messages": self.messages()})
        try:
            with file.open("a+b") as stream:
                stream.seek(0)
                there = stream.read()
                if there and not there.endswith(b"\n"):
                    stream.write(b"\n")
                stream.write(line.encode("utf-8", "replace"))
        except OSError as error:
            cause = error.strerror or str(error)
            raise UserError(Problem(f"/save {file}: it cannot be written", cause, "/save chats.jsonl")) from error
        return there.count(b"\n") + (not there.endswith(b"\n") and bool(there)) + 1
