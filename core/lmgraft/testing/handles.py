"""Models to ask whose answers are functions of the ids alone, and a handle that notes and checks what is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from lmgraft.seams.parallelism import ModelHandle, Sampling, Scored

__all__ = ["HashHandle", "Recorded", "Refused"]

Request = tuple[Sequence[int], Sequence[int]]


class HashHandle:
    """A model of strong and arbitrary opinions: a token's log-probability hangs on all ids before it, and on nothing
    else, so that neither batches nor their order can matter. Probabilities do not sum to 1."""

    def __init__(self, vocab_size: int, context: int = 64, *, seed: int = 0) -> None:
        self.vocab_size = vocab_size
        self.context = context
        self._start = blake2b(f"{seed}".encode(), digest_size=8).digest()

    def score(self, requests: Sequence[Request]) -> list[Scored]:
        return [self._score(prefix, continuation) for prefix, continuation in requests]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        state = self._start
        for token in prompt:
            state = _after(state, token)
        for _ in range(max(0, min(sampling.max_new_tokens, self.context - len(prompt)))):
            token = int.from_bytes(state, "little") % self.vocab_size
            yield token
            if token in sampling.stop_ids:
                return
            state = _after(state, token)

    def _score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        state, logprobs, greedy = self._start, [], []
        for token in prefix:
            state = _after(state, token)
        for token in continuation:
            state = _after(state, token)
            share = int.from_bytes(state, "little") / 2**64
            logprobs.append(-(0.1 + 1.8 * share) * math.log(self.vocab_size))
            greedy.append(share < 0.25)
        return Scored(logprobs, greedy)


def _after(state: bytes, token: int) -> bytes:
    return blake2b(state + int(token).to_bytes(8, "little"), digest_size=8).digest()


class Refused(AssertionError):
    """A request that no model answers."""


class Recorded:
    """Another handle behind one that keeps what it was asked and refuses what a real model would."""

    def __init__(self, handle: ModelHandle, vocab_size: int) -> None:
        self.handle = handle
        self.vocab_size = vocab_size
        self.asked: list[tuple[list[int], list[int]]] = []
        """Requests in order, batches apart."""

    @property
    def context(self) -> int:
        return self.handle.context

    def score(self, requests: Sequence[Request]) -> list[Scored]:
        """:raises Refused: an empty prefix, an id that does not exist, or more ids than the context takes."""
        for prefix, continuation in requests:
            self._check(prefix, continuation)
            if len(prefix) + len(continuation) > self.context + 1:
                raise Refused(
                    f"it asks for {len(prefix)} + {len(continuation)} ids, and the context takes {self.context} + 1"
                )
            self.asked.append((list(prefix), list(continuation)))
        return self.handle.score(requests)

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """:raises Refused: as :meth:`score`; a prompt must leave room for one token."""
        self._check(prompt, ())
        if len(prompt) > self.context:
            raise Refused(f"it prompts with {len(prompt)} ids, and the context takes {self.context}")
        self.asked.append((list(prompt), []))
        return self.handle.generate(prompt, sampling)

    def _check(self, prefix: Sequence[int], continuation: Sequence[int]) -> None:
        if not len(prefix):
            raise Refused("it asks with an empty prefix, and a model predicts after one id at least: the end token")
        for token in (*prefix, *continuation):
            if not 0 <= token < self.vocab_size:
                raise Refused(f"it asks with the id {token}, and ids are 0 to {self.vocab_size - 1}")
