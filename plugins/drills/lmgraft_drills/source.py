"""Data source ``drills``: generated tasks as chats or as pairs of a right and a wrong answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random

from lmgraft.seams.data_source import Document, Unit

from lmgraft_drills.flaws import FLAWS
from lmgraft_drills.plugin import DrillsConfig, Rows
from lmgraft_drills.tasks import MAKERS, Drill

__all__ = ["Drills"]

#: Rows of a unit: enough units for all workers, without a unit for every handful.
UNIT = 500
#: Raised when the tasks change, so that stages made of the old ones are made anew.
REVISION = 1


class Drills:
    """Row ``i`` is a pure function of (seed, kind of rows, i): workers, order and resuming change nothing.

    Chats and pairs never share a problem, whatever their seeds: what a model is judged on, preferring the right answer
    of held-out pairs, it has not been told in a chat.
    """

    def __init__(self, config: DrillsConfig) -> None:
        self.config = config

    def units(self) -> list[Unit]:
        """One for every 500 rows."""
        count, said = self.config.count, (REVISION, self.config.seed, self.config.tasks, self.config.flawed)
        digest = hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()
        return [
            Unit(id=f"{self.config.rows.value}-{start}", digest=digest, start=start, end=min(start + UNIT, count))
            for start in range(0, count, UNIT)
        ]

    def read(self, unit: Unit, offset: int) -> Iterator[Document]:
        """The rows of a unit; a row's group is its problem, so that one held out is held out in all its wordings."""
        for number in range(unit.start + offset, unit.end or unit.start):
            yield self._row(number)

    def _row(self, number: int) -> Document:
        rows = self.config.rows
        draw = Random(f"{self.config.seed}:{rows.value}:{number}")
        task = draw.choice(self.config.tasks)
        drill = MAKERS[task](draw)
        while _side(drill) is not rows:
            drill = MAKERS[task](draw)
        name, group = f"{rows.value}-{number}", f"{task}: {drill.problem}"
        if rows is Rows.pairs:
            answers = {"chosen": drill.right, "rejected": drill.wrong}
            return Document(name, prompt=drill.question, **answers, group=group, meta={"task": task})
        answer, score = drill.right, draw.randint(10, 60)
        if draw.random() < self.config.flawed:
            answer, score = draw.choice(FLAWS)(answer, score)
        messages = [{"role": "user", "content": drill.question}, {"role": "assistant", "content": answer}]
        return Document(name, messages=messages, group=group, meta={"task": task, "score": score})


def _side(drill: Drill) -> Rows:
    """Which kind of rows a problem belongs to: five of eight are chats, since they teach the tasks."""
    digest = hashlib.blake2b(drill.problem.encode(), digest_size=1).digest()
    return Rows.messages if digest[0] % 8 < 5 else Rows.pairs
