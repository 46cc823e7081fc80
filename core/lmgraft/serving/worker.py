"""The thread that owns the model: all texts of all requests, one token of each at a time.

A request's texts wait in order and join those under way between two steps, one at a time, so that a long prompt delays
the others by itself only. A text ends by a stop, by its length, when its time is up, or when nobody waits for it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmgraft.generation.onebyone import decoding
from lmgraft.generation.text import Reason, TextStream
from lmgraft.seams.parallelism import Decoding, ModelHandle, Sampling
from lmgraft.serving.refusals import Refused

__all__ = ["Event", "Text", "Worker"]


@dataclass(frozen=True, slots=True)
class Event:
    """More of a text."""

    index: int
    """Of the text in its request."""
    text: str
    """What is new; may be empty."""
    reason: Reason | None = None
    """Why it ended; None while it goes on."""
    fault: Refused | None = None
    """It failed; nothing more comes."""


@dataclass(slots=True, eq=False)
class Text:
    """One text that was asked for."""

    index: int
    """Of the text in its request."""
    prompt: Sequence[int]
    """At least one id, shorter than the context."""
    sampling: Sampling
    """How it is drawn; its stop ids are the stream's."""
    stream: TextStream
    """Makes text of ids."""
    deliver: Callable[[Event], None]
    """Called in the worker's thread; returns at once."""
    deadline: float
    """Of ``time.monotonic()``."""
    gone: bool = False
    """Nobody waits for it any more."""


class Worker:
    """``at_once`` texts are written together, ``waiting`` more wait."""

    def __init__(self, handle: ModelHandle, *, at_once: int, waiting: int) -> None:
        self._handle = handle
        self._at_once, self._limit = at_once, at_once + waiting
        self._waiting: deque[Text] = deque()
        self._running: dict[int, Text] = {}
        self._batch: Decoding = decoding(handle)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="lmgraft-model", daemon=True)

    @property
    def limit(self) -> int:
        """Texts that may be under way or wait."""
        return self._limit

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def counts(self) -> tuple[int, int]:
        """(texts under way, texts that wait)."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def submit(self, texts: Sequence[Text]) -> None:
        """Lets the texts of one request wait, all or none.

        :raises Refused: too many wait (429), or the server is shutting down (503).
        """
        with self._changed:
            if self._closed:
                raise Refused(503, "The server is shutting down.")
            if len(self._running) + len(self._waiting) + len(texts) > self._limit:
                raise Refused(429, "The server is busy: too many requests wait. Try again.", code="rate_limit_exceeded")
            self._waiting.extend(texts)
            self._changed.notify()

    def cancel(self, texts: Sequence[Text]) -> None:
        """Nobody waits for these any more; those that have ended are passed over."""
        with self._changed:
            for text in texts:
                text.gone = True
            self._changed.notify()

    def close(self, seconds: float) -> bool:
        """Takes no more texts and ends with the last one; False where it has not ended after so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._has_work():
                try:
                    self._turn()
                except Exception:  # no text under way can go on, and the next ones begin from nothing
                    traceback.print_exc()
                    self._begin_anew()
        finally:  # whatever went wrong, nobody waits for a thread that has ended
            with self._changed:
                self._closed = True
                left = [*self._running.values(), *self._waiting]
                self._running.clear()
                self._waiting.clear()
            for text in left:
                text.deliver(Event(text.index, "", fault=_fault()))

    def _turn(self) -> None:
        self._sweep()
        text = self._next()
        if text is not None:
            self._begin(text)
        if self._running:
            self._step()

    def _begin_anew(self) -> None:
        with self._changed:
            failed = list(self._running.values())
            self._running.clear()
        for text in failed:
            text.deliver(Event(text.index, "", fault=_fault()))
        self._batch = decoding(self._handle)

    def _has_work(self) -> bool:
        """Waits for some; False where none will come."""
        with self._changed:
            while not self._waiting and not self._running and not self._closed:
                self._changed.wait()
            return bool(self._waiting or self._running)

    def _sweep(self) -> None:
        """Ends what nobody waits for and what is late."""
        now = time.monotonic()
        with self._changed:
            late = [text for text in self._waiting if text.deadline < now and not text.gone]
            self._waiting = deque(text for text in self._waiting if not text.gone and text.deadline >= now)
        for text in late:
            fault = Refused(503, "The server was too busy to begin within the time limit.", code="timeout")
            text.deliver(Event(text.index, "", fault=fault))
        for number, text in list(self._running.items()):
            if text.gone:
                self._end(number)
            elif text.deadline < now:
                self._finish(number, text)

    def _next(self) -> Text | None:
        with self._changed:
            return self._waiting.popleft() if self._waiting and len(self._running) < self._at_once else None

    def _begin(self, text: Text) -> None:
        try:
            number = self._batch.add(text.prompt, text.sampling)
        except Exception:  # of the model or of memory: this request's, and no reason to stop serving others
            traceback.print_exc()
            text.deliver(Event(text.index, "", fault=_fault()))
            return
        with self._changed:
            self._running[number] = text

    def _step(self) -> None:
        told = self._batch.step()
        for number, token, last in told:
            self._tell(number, token, last)
        if not told:  # an engine that ends texts without a word
            for number, text in list(self._running.items()):
                self._finish(number, text)

    def _tell(self, number: int, token: int, last: bool) -> None:
        text = self._running.get(number)
        if text is None:
            return
        event = _event(text, lambda: text.stream.feed(token, last=last))
        if event.reason is not None or event.fault is not None:
            self._end(number)
        if event != Event(text.index, ""):
            text.deliver(event)

    def _finish(self, number: int, text: Text) -> None:
        """Ends a text as it is."""
        self._end(number)
        text.deliver(_event(text, text.stream.finish))

    def _end(self, number: int) -> None:
        self._batch.remove(number)
        with self._changed:
            del self._running[number]


def _event(text: Text, more: Callable[[], str]) -> Event:
    try:
        piece = more()
    except Exception:  # a tokenizer that does not know all ids of its model: this text's fault, and no other's
        traceback.print_exc()
        return Event(text.index, "", fault=_fault())
    return Event(text.index, piece, text.stream.reason)


def _fault() -> Refused:
    return Refused(500, "The model failed on this request; the server's log says why.")
