"""How ranks at work talk to the process that started them: through two files, whatever the number of ranks.

Rank 0 appends one JSON line an event to ``events.jsonl``; the parent follows the file, and turns lines into rows of
metrics.jsonl, a progress bar and notes. The other way there is one word, in the file ``stop``, which the ranks look
for between steps. A run that resumes keeps the rows of its past up to the checkpoint and hands them on again, so that
the metrics of a run that was killed five times read like those of one that was not.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from lmgraft.errors import Fault, Stopped
from lmgraft.seams.stage import Progress, StageContext

__all__ = ["Events", "FileEvents", "Follower", "NoEvents"]

EVENTS = "events.jsonl"
PAST = "events.past.jsonl"
STOP = "stop"

#: Seconds between two looks of the parent, and between two moves of the progress bar.
POLL = 0.1


class Events(Protocol):
    """What the training loop says while it works. Only the main rank's words go anywhere."""

    def begin(self, step: int) -> None:
        """The loop starts after ``step`` steps (0: from nothing)."""
        ...

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics; holds ``step``."""
        ...

    def progress(self, step: int, shown: Mapping[str, Any]) -> None:
        """So many steps are done; cheap enough to be called at each."""
        ...

    def note(self, text: str) -> None: ...

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is complete on disk."""
        ...

    def alive(self) -> None:
        """Raises :class:`~lmgraft.errors.Stopped` where the loop must save and end, another error where it must end
        without touching anything."""
        ...


class NoEvents:
    """For ranks other than the main one, and for tests: says nothing, and stops when the stop file says so."""

    def __init__(self, folder: Path) -> None:
        self._stop = str(folder / STOP)

    def begin(self, step: int) -> None: ...

    def row(self, row: Mapping[str, Any]) -> None: ...

    def progress(self, step: int, shown: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def checkpoint(self, step: int, path: Path) -> None: ...

    def alive(self) -> None:
        if not os.path.exists(self._stop):  # a microsecond; pathlib takes ten
            return
        if Path(self._stop).read_text(encoding="utf-8") == "save":
            raise Stopped("stopped on a signal; the checkpoint is saved")
        raise Fault("the stage was taken over by another process")


class FileEvents(NoEvents):
    """The main rank's end: appends to ``events.jsonl``, a whole line at a time, flushed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder
        self._stream: IO[str] | None = None
        self._waiting: list[str] = []
        self._shown = 0.0

    def begin(self, step: int) -> None:
        # Rows of the first attempt count only when the loop goes on from a checkpoint of it.
        past = _rows(self._folder / PAST, step) if step else iter(())
        fresh = self._folder / f"{EVENTS}.tmp"
        with fresh.open("w", encoding="utf-8") as stream:
            stream.writelines(_line("row", row) for row in past)
            stream.write(_line("progress", [step, {}]))
            stream.writelines(self._waiting)
        fresh.replace(self._folder / EVENTS)  # the parent waits for the name, so it never sees half of the past
        self._stream = (self._folder / EVENTS).open("a", encoding="utf-8")
        self._waiting.clear()

    def row(self, row: Mapping[str, Any]) -> None:
        self._write(_line("row", row))

    def progress(self, step: int, shown: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self._shown >= POLL:
            self._shown = now
            self._write(_line("progress", [step, shown]))

    def note(self, text: str) -> None:
        self._write(_line("note", text))

    def checkpoint(self, step: int, path: Path) -> None:
        self._write(_line("checkpoint", [step, path.name]))

    def _write(self, line: str) -> None:
        if self._stream is None:
            self._waiting.append(line)
        else:
            self._stream.write(line)
            self._stream.flush()


class Follower:
    """The parent's end, a context manager around the launch: a thread that follows the file and watches for signals.

    An error of ``context.alive`` (a signal, a lost lease) becomes the stop word, and is raised here once the ranks
    have ended.
    """

    def __init__(self, context: StageContext, folder: Path, bar: Progress, checkpoints: Path) -> None:
        self._context, self._folder, self._bar, self._checkpoints = context, folder, bar, checkpoints
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="lmgraft-follower", daemon=True)
        self._error: BaseException | None = None
        self._stream: IO[bytes] | None = None
        self._rest = b""
        self._step = 0

    def __enter__(self) -> Follower:
        (self._folder / STOP).unlink(missing_ok=True)
        events = self._folder / EVENTS
        if events.exists():
            events.replace(self._folder / PAST)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._stream is not None:
            self._stream.close()
        if self._error is not None and (error is None or self._outranks(error)):
            raise self._error from error

    def _outranks(self, error: BaseException) -> bool:
        """Ranks that were told to stop or to leave do so with an error, and the reason is the one to tell. A fault
        after a signal is another matter: nothing was saved."""
        return isinstance(error, Stopped) or (isinstance(error, Fault) and not isinstance(self._error, Stopped))

    def _follow(self) -> None:
        while True:
            ended = self._ended.wait(POLL)  # read before the last look: what was written until then is still seen
            try:
                self._look()
                if self._error is None:
                    self._context.alive()
            except BaseException as error:  # raised again by the thread that waits for the ranks
                self._error = self._error or error
                self._halt("save" if isinstance(error, Stopped) else "leave")
            if ended:
                return

    def _halt(self, word: str) -> None:
        fresh = self._folder / f"{STOP}.tmp"
        fresh.write_text(word, encoding="utf-8")
        fresh.replace(self._folder / STOP)

    def _look(self) -> None:
        if self._stream is None:
            try:
                self._stream = (self._folder / EVENTS).open("rb")
            except FileNotFoundError:
                return
        *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
        reached, shown = self._step, {}
        for line in lines:
            kind, value = json.loads(line)
            if kind == "progress":
                reached, shown = max(reached, value[0]), value[1]
            else:
                self._hear(kind, value)
                reached = max(reached, value["step"]) if kind == "row" else reached
        if reached > self._step or shown:
            self._bar.advance(reached - self._step, **shown)
            self._step = reached

    def _hear(self, kind: str, value: Any) -> None:
        if kind == "row":
            self._context.emit(value)
        elif kind == "note":
            self._context.note(value)
        elif kind == "checkpoint":
            step, name = value
            self._context.checkpointed(step, self._checkpoints / name)


def _line(kind: str, value: Any) -> str:
    return json.dumps([kind, value], allow_nan=False) + "\n"


def _rows(path: Path, step: int) -> Iterator[Mapping[str, Any]]:
    """The rows of a past attempt up to ``step``; a last line that a kill cut short is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.endswith("\n"):
                return
            kind, value = json.loads(line)
            if kind == "row" and value["step"] <= step:
                yield value
