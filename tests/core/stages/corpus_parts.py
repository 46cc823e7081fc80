"""Sources and filters for the tests of the corpus stage. A module of its own: worker processes import it by name."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged, Document, Unit, Unreachable, Unreadable
from lmgraft.seams.filter import KEEP, Verdict


@dataclass
class LinesConfig(ComponentConfig):
    path: str | None = None
    log: str | None = execution(None)

    def ready(self) -> bool:
        return self.path is not None


class Lines:
    """One document a line; a file is a unit and a group. ``{...}`` is a document in JSON."""

    def __init__(self, config: LinesConfig) -> None:
        self.root = Path(config.path or "")
        self.log = config.log

    def units(self) -> list[Unit]:
        return [
            Unit(path.relative_to(self.root).as_posix(), path=str(path), size=path.stat().st_size)
            for path in sorted(self.root.rglob("*.txt"))
        ]

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{os.getpid()} {unit.id}\n")
        lines = Path(str(unit.path)).read_text().split("\n")
        for number, line in list(enumerate(lines))[offset:]:
            if line.startswith("{"):
                yield Document(id=f"{unit.id}:{number}", **json.loads(line))
            elif line.startswith("DAMAGED "):
                said = Problem(f"{unit.path}, line {number + 1} is {line[8:]}", "it was planted", "mend it")
                yield Damaged(line[8:], said, len(line))
            elif line == "CUT":
                raise Unreadable("truncated", Problem(f"{unit.path} is cut short", "it was planted", "mend it"), 7)
            elif line == "GONE":
                raise Unreachable(Problem(f"{unit.id} cannot be reached", "its server is away", "start again"))
            elif line == "BROKEN":
                raise UserError(Problem(f"{unit.id}, line {number + 1}", "it is broken", "mend it"))
            elif line == "BUG":
                raise json.JSONDecodeError("a plugin's own fault", "doc", 0)
            else:
                yield Document(id=f"{unit.id}:{number}", text=line, group=unit.id, meta={"line": number})


@dataclass
class NamedConfig(LinesConfig):
    pass


class Named(Lines):
    """One document a file, of the file's name."""

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        if not offset:
            yield Document(id=unit.id.removesuffix(".txt"), text=Path(str(unit.path)).read_text())


@dataclass
class Plain(ComponentConfig):
    pass


@dataclass
class ShortConfig(ComponentConfig):
    least: int = 5


class Short:
    def __init__(self, config: ShortConfig) -> None:
        self.least = config.least

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [KEEP if d.text is None or len(d.text) >= self.least else Verdict.drop("too_short") for d in batch]


class Tidy:
    """Cuts every ``#`` and writes ``ok`` for ``OK``."""

    def __init__(self, config: Plain) -> None:
        pass

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [self._verdict(d.text or "") for d in batch]

    def _verdict(self, text: str) -> Verdict:
        if "OK" in text:
            return Verdict.rewrite(text.replace("OK", "ok"), "ok")
        return Verdict(cuts=tuple((i, i + 1) for i, c in enumerate(text) if c == "#"), reason="hash")


class Twins:
    """Keeps the first of equal texts, and writes ``one`` for ``eins``."""

    def __init__(self, config: Plain) -> None:
        pass

    def schema(self) -> pa.Schema:
        return pa.schema([("hash", pa.binary(8)), ("eins", pa.bool_()), ("position", pa.int64())])

    def order(self) -> list[str]:
        return ["hash", "position"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        texts = [document.text or document.id for document in batch]
        hashes = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        columns = [pa.array(hashes, pa.binary(8)), pa.array(["eins" in t for t in texts]), pa.array(list(positions))]
        return pa.record_batch(columns, schema=self.schema())

    def resolve(self, spool: Any, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        (workdir / "scratch").write_text("")
        last = None
        found = []
        for batch in spool.batches():
            for row in batch.to_pylist():
                if row["hash"] == last:
                    found.append((row["position"], Verdict.drop("twin")))
                elif row["eins"]:
                    found.append((row["position"], Verdict.rewrite("one for eins", "eins")))
                last = row["hash"]
        return iter(found)


@dataclass
class LearntConfig(ComponentConfig):
    path: str = ""


class Learnt:
    """Drops texts with a word that the rows name."""

    def __init__(self, config: LearntConfig) -> None:
        self.path = config.path

    def inputs(self) -> dict[str, str]:
        return {"words": self.path}

    def fit(self, inputs: Any, workdir: Path) -> None:
        memory = workdir / "words.json"
        if not memory.exists():
            memory.write_text(json.dumps([row["word"] for row in inputs["words"]]))
        self.words = json.loads(memory.read_text())

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [Verdict.drop("word") if any(w in (d.text or "") for w in self.words) else KEEP for d in batch]


@dataclass
class KillerConfig(ComponentConfig):
    flag: str = ""
    word: str = "unused"


class Killer:
    """Ends its process without a word at the text ``word``, once."""

    def __init__(self, config: KillerConfig) -> None:
        self.config = config

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        for document in batch:
            if document.text == self.config.word and not Path(self.config.flag).exists():
                Path(self.config.flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [KEEP] * len(batch)


class Sloppy:
    """Breaks the promise of one verdict for each document."""

    def __init__(self, config: Plain) -> None:
        pass

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return []


@dataclass
class SlowConfig(ComponentConfig):
    seconds: float = 0.1


class Slow:
    """Takes so long for a batch."""

    def __init__(self, config: SlowConfig) -> None:
        self.seconds = config.seconds

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        time.sleep(self.seconds)
        return [KEEP] * len(batch)


class Finds(Short):
    """Counts the words ``OK`` and ``#`` of every text and says a word of those with both; drops what is short, and what
    begins with a digit by that digit."""

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [self.found(document.text or "") for document in batch]

    def found(self, text: str) -> Verdict:
        counts = {word: text.count(word) for word in ("OK", "#") if word in text}
        note = f"both in {text!r}" if len(counts) == 2 else ""
        reason = "too_short" if len(text) < self.least else text[0] * text[0].isdigit()
        return Verdict(keep=not reason, reason=reason, counts=counts, note=note) if reason or counts else KEEP


class FindsTwins(Twins):
    """Says of each document that a twin of it was dropped, and counts them."""

    def resolve(self, spool: Any, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        groups: dict[bytes, list[int]] = {}
        for batch in spool.batches():
            for row in batch.to_pylist():
                groups.setdefault(row["hash"], []).append(row["position"])
        for first, *others in groups.values():
            if others:
                yield first, Verdict(counts={"twins": len(others)}, note=f"{len(others)} twins")
            yield from ((position, Verdict.drop("twin")) for position in others)


class Lost(Twins):
    """Speaks of a document that is not there."""

    def resolve(self, spool: Any, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        yield spool.rows, Verdict.drop("nowhere")


COMPONENTS = {
    kind.__name__.lower(): Component(
        name=kind.__name__.lower(), target=f"corpus_parts:{kind.__name__}", config=config, summary="for tests"
    )
    for kind, config in [
        (Lines, LinesConfig),
        (Named, NamedConfig),
        (Short, ShortConfig),
        (Tidy, Plain),
        (Twins, Plain),
        (Learnt, LearntConfig),
        (Killer, KillerConfig),
        (Sloppy, Plain),
        (Slow, SlowConfig),
        (Finds, ShortConfig),
        (FindsTwins, Plain),
        (Lost, Plain),
    ]
}
