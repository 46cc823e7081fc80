"""The model to ask: log-probabilities of continuations, and text token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from lmgraft.generation.decoding import TextBatch
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.parallelism import Decoding, Sampling, Scored

__all__ = ["Handle"]

#: Tokens of one forward pass while scoring, padding included; at least one request always goes in.
PASS_TOKENS = 8192

Request = tuple[Sequence[int], Sequence[int]]


class Handle:
    """Implements :class:`lmgraft.seams.parallelism.ModelHandle` over a module whose ``forward`` is an architecture's.

    ``context`` is the longest sequence it takes; ``autocast()`` is entered around every forward pass. ``settled`` says
    that the weights change no more: text then comes from the module that ``module.generation()`` gives, where it has
    that, made inside ``autocast()`` when the first text is begun.
    """

    def __init__(
        self,
        module: nn.Module,
        context: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        settled: bool = False,
    ) -> None:
        self._module = module
        self._context = context
        self._device = device
        self._autocast = autocast
        self._settled = settled
        self._writer: nn.Module | None = None

    @property
    def context(self) -> int:
        """The longest sequence it takes."""
        return self._context

    def score(self, requests: Sequence[Request]) -> list[Scored]:
        """Results in the order of the requests, which are run with others of their length.

        Padding stands at the right, where a causal model's answers cannot see it. What else is in the batch may
        change the order of a float32 sum inside a matrix product: about 1e-6 of a log-probability, not more.
        """
        for prefix, continuation in requests:
            if not prefix or len(prefix) + len(continuation) > self._context + 1:
                length = f"{len(prefix)} + {len(continuation)}"
                raise ValueError(f"a request of {length} ids; the prefix needs one, and both fit {self._context} + 1")
        results: list[Scored] = [Scored([], [])] * len(requests)
        for group in _groups(requests):
            for index, scored in zip(group, self._score([requests[i] for i in group]), strict=True):
                results[index] = scored
        return results

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Yields ids until a stop id (which is yielded too), ``max_new_tokens``, or the end of the context.

        A prompt that leaves no room is cut at its left to half of the context.
        """
        if not prompt:
            raise ValueError("the prompt needs at least one id")
        ids = list(prompt) if len(prompt) < self._context else list(prompt)[-max(1, self._context // 2) :]
        texts = self.decoding()
        texts.add(ids, sampling)
        while len(texts):
            [(_, token, _)] = texts.step()
            yield token

    def decoding(self) -> Decoding:
        """A new, empty batch of texts; prompts that leave no room are for the caller to cut."""
        return TextBatch(self._next, self._context)

    def renew(self) -> None:
        """Forgets what was made of the weights: they have been loaded anew."""
        self._writer = None

    def _next(self, tokens: torch.Tensor, positions: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        with torch.inference_mode(), self._autocast():
            out: Outputs = self._asked()(
                tokens.to(self._device),
                positions=positions.to(self._device),
                asks=frozenset({"next_logits"}),
                cache=cache,
            )
        assert out.next_logits is not None, "a module answers what it is asked"
        return out.next_logits, out.cache

    def _asked(self) -> nn.Module:
        """The module that writes: the live one where its weights may still change."""
        if self._module.training:
            self._module.eval()
        if self._writer is None:
            made = getattr(self._module, "generation", None) if self._settled else None
            self._writer = self._module if made is None else made()
        return self._writer

    def _score(self, requests: Sequence[Request]) -> Iterator[Scored]:
        self._module.eval()
        width = max(len(prefix) + len(continuation) for prefix, continuation in requests) - 1
        tokens = torch.zeros(len(requests), width, dtype=torch.int64)
        targets = torch.full_like(tokens, -1)
        for row, (prefix, continuation) in enumerate(requests):
            ids = torch.tensor([*prefix, *continuation], dtype=torch.int64)
            tokens[row, : len(ids) - 1] = ids[:-1]
            targets[row, len(prefix) - 1 : len(ids) - 1] = ids[len(prefix) :]
        with torch.inference_mode(), self._autocast():
            out: Outputs = self._module(
                tokens.to(self._device), targets=targets.to(self._device), asks=frozenset({"logprob", "greedy"})
            )
        assert out.logprob is not None, "a module answers what it is asked"
        assert out.greedy is not None, "a module answers what it is asked"
        logprobs, greedy = out.logprob.float().cpu(), out.greedy.cpu()
        for row, (prefix, continuation) in enumerate(requests):
            span = slice(len(prefix) - 1, len(prefix) - 1 + len(continuation))
            yield Scored(logprobs[row, span].tolist(), greedy[row, span].tolist())


def _groups(requests: Sequence[Request]) -> Iterator[list[int]]:
    """Indices of the requests that are run together, longest first: what does not fit fails at once."""
    order = sorted(
        (index for index, (_, continuation) in enumerate(requests) if continuation),
        key=lambda index: (-len(requests[index][0]) - len(requests[index][1]), index),
    )
    group: list[int] = []
    for index in order:
        width = sum(len(part) for part in requests[(group or [index])[0]])
        if group and width * (len(group) + 1) > PASS_TOKENS:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
