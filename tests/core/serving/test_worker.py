"""The thread that owns the model: order, places, time, and a model that fails; without HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lmgraft.generation.onebyone import OneByOne, decoding
from lmgraft.generation.text import Ending, Reason, TextStream
from lmgraft.seams.parallelism import ModelHandle, Sampling, Scored
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.serving.refusals import Refused
from lmgraft.serving.worker import Event, Text, Worker
from lmgraft.testing.inputs import byte_tokenizer


class Counting:
    """A handle whose texts count up from the prompt's last id; it fails when it comes to id 99."""

    context = 10_000

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        raise NotImplementedError

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        for number in range(sampling.max_new_tokens):
            self.go.wait(10)
            token = prompt[-1] + 1 + number
            if token == 99:
                raise RuntimeError("the model came to 99")
            yield token % 256


class Waiting:
    """Collects the events of one request."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer, self.events, self._came = tokenizer, list[Event](), threading.Condition()

    def deliver(self, event: Event) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def text(self, start: int = 120, tokens: int = 5, seconds: float = 30, stop: str = "") -> Text:
        sampling = Sampling(max_new_tokens=tokens)
        stream = TextStream(self.tokenizer, Ending(strings=(stop,) if stop else ()))
        return Text(0, [start], sampling, stream, self.deliver, time.monotonic() + seconds)

    def end(self) -> Event:
        with self._came:
            done = lambda: [one for one in self.events if one.reason or one.fault]  # noqa: E731
            assert self._came.wait_for(done, 10), self.events
        return done()[0]


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    return byte_tokenizer(tmp_path)


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker(Counting(), at_once=2, waiting=2)
    one.start()
    yield one
    one._handle.go.set()  # type: ignore[attr-defined]
    assert one.close(10)


def hold(worker: Worker, *, go: bool = False) -> None:
    event = worker._handle.go  # type: ignore[attr-defined]
    event.set() if go else event.clear()


def until(worker: Worker, running: int, waiting: int) -> None:
    end = time.monotonic() + 10
    while worker.counts() != (running, waiting):
        assert time.monotonic() < end, worker.counts()
        time.sleep(0.002)


def test_texts_are_written_to_their_end(worker: Worker, tokenizer: TextTokenizer) -> None:
    one, other = Waiting(tokenizer), Waiting(tokenizer)
    worker.submit([one.text(tokens=7)])
    worker.submit([other.text(start=60, tokens=30, stop=tokenizer.decode([65, 66]))])
    assert (one.end().reason, other.end().reason) == ("length", "stop")
    assert "".join(event.text for event in one.events) == tokenizer.decode(range(121, 128))
    assert "".join(event.text for event in other.events) == tokenizer.decode(range(61, 65))
    until(worker, 0, 0)


def test_places_are_counted_and_given_back(worker: Worker, tokenizer: TextTokenizer) -> None:
    all_ = [Waiting(tokenizer) for _ in range(5)]
    hold(worker)
    texts = [one.text() for one in all_]
    worker.submit(texts[:4])
    with pytest.raises(Refused) as caught:
        worker.submit(texts[4:])
    assert caught.value.status == 429
    worker.cancel(texts[1:4])
    hold(worker, go=True)
    assert all_[0].end().reason == "length"
    until(worker, 0, 0)
    assert not [event for one in all_[1:4] for event in one.events if event.reason]
    worker.submit(texts[4:])
    assert all_[4].end().reason == "length"


def test_a_text_under_way_that_nobody_waits_for_ends(worker: Worker, tokenizer: TextTokenizer) -> None:
    endless = [Waiting(tokenizer).text(start=130, tokens=10**9) for _ in range(2)]
    worker.submit(endless)
    worker.submit([(one := Waiting(tokenizer)).text()])
    until(worker, 2, 1)
    worker.cancel(endless)
    assert one.end().reason == "length"
    until(worker, 0, 0)


def test_a_text_ends_when_its_time_is_up(worker: Worker, tokenizer: TextTokenizer) -> None:
    one, two, late = Waiting(tokenizer), Waiting(tokenizer), Waiting(tokenizer)
    worker.submit([one.text(start=130, tokens=10**9, seconds=0.3), two.text(start=130, tokens=10**9, seconds=0.3)])
    worker.submit([late.text(seconds=0.1)])
    assert (one.end().reason, two.end().reason) == ("length", "length")
    fault = late.end().fault
    assert fault is not None
    assert fault.status == 503


def test_a_model_that_fails_fails_those_under_way_and_no_others(
    worker: Worker, tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, after = Waiting(tokenizer), Waiting(tokenizer)
    worker.submit([bad.text(start=90, tokens=50)])
    fault = bad.end().fault
    assert fault is not None
    assert (fault.status, "99" in fault.message) == (500, False)
    worker.submit([after.text()])
    assert after.end().reason == "length"
    worker.submit([first := Waiting(tokenizer).text(start=98)])
    until(worker, 0, 0)
    assert first.stream.tokens == 0
    assert "the model came to 99" in capsys.readouterr().err


def test_a_tokenizer_that_fails_fails_one_text(
    worker: Worker, tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    class Knowing:
        def decode(self, ids: Sequence[int]) -> str:
            raise IndexError("there is no such token")

    bad, good = Waiting(Knowing()), Waiting(tokenizer)  # type: ignore[arg-type]
    hold(worker)
    worker.submit([bad.text(), good.text(tokens=20)])
    hold(worker, go=True)
    assert bad.end().fault is not None
    assert good.end().reason == "length"
    until(worker, 0, 0)
    assert "no such token" in capsys.readouterr().err


def test_a_tokenizer_that_fails_at_the_end_of_the_time_fails_one_text(
    worker: Worker, tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(TextStream):
        def finish(self, reason: Reason = "length") -> str:
            raise IndexError("nothing ends here")

    late, after = Waiting(tokenizer), Waiting(tokenizer)
    worker.submit([replace(late.text(start=130, tokens=10**9, seconds=0.1), stream=Fails(tokenizer, Ending()))])
    assert late.end().fault is not None
    worker.submit([after.text()])
    assert after.end().reason == "length"
    assert "nothing ends here" in capsys.readouterr().err


def test_a_batch_that_cannot_let_go_of_a_text_is_begun_anew(
    worker: Worker, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, late, after = Waiting(tokenizer), Waiting(tokenizer), Waiting(tokenizer)

    def fails(number: int) -> None:
        raise MemoryError("no room for the rows that stay")

    monkeypatch.setattr(worker._batch, "remove", fails)
    worker.submit([one.text(start=130, tokens=10**9), late.text(start=130, tokens=10**9, seconds=0.1)])
    for failed in (one, late):
        assert failed.end().fault is not None
    worker.submit([after.text()])
    assert after.end().reason == "length"


def test_a_closed_worker_ends_what_it_has(tokenizer: TextTokenizer) -> None:
    worker = Worker(Counting(), at_once=1, waiting=5)
    worker.start()
    hold(worker)
    waiting = [Waiting(tokenizer) for _ in range(3)]
    worker.submit([one.text() for one in waiting])
    assert not worker.close(0.05)
    with pytest.raises(Refused) as caught:
        worker.submit([waiting[0].text()])
    assert caught.value.status == 503
    hold(worker, go=True)
    assert worker.close(10)
    assert [one.end().reason for one in waiting] == ["length"] * 3


def test_a_handle_that_writes_one_text_at_a_time_is_stepped_in_turns() -> None:
    handle: ModelHandle = Counting()
    batch = decoding(handle)
    assert isinstance(batch, OneByOne)
    sampling = Sampling(max_new_tokens=2)
    first, second = batch.add([10], sampling), batch.add([20], replace(sampling, max_new_tokens=3))
    assert batch.step() == [(first, 11, False), (second, 21, False)]
    third = batch.add([30], sampling)
    assert batch.step() == [(first, 12, True), (second, 22, False), (third, 31, False)]
    batch.remove(second)
    batch.remove(second)
    assert (batch.step(), len(batch), batch.step()) == ([(third, 32, True)], 0, [])
