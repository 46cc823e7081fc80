"""What an architecture answers: the quantities that objectives ask for, and the next token with a cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from lmgraft.errors import Fault
from lmgraft.seams.architecture import ASKS
from lmgraft.testing import modules
from lmgraft.testing._architecture_base import ArchitectureBase
from lmgraft.testing.outcome import NotApplicable

__all__ = ["ArchitectureAnswers"]


class ArchitectureAnswers(ArchitectureBase):
    """Asks and caches."""

    # --- generation -------------------------------------------------------------------------------------------------

    def test_cache_equals_no_cache(self) -> None:
        """a prompt, then token by token or a few at a time with the cache, is the whole sequence read at once"""
        part = self.build()
        module, length = self.module(part), self._length(part)
        ids, targets = self._shown(part, 2)
        with torch.inference_mode():
            self._one_by_one(module, ids, length)
            at, cache = 0, None
            whole = module(ids, targets=targets, asks=frozenset({"logprob"})).logprob
            for size in _chunks(length):
                here = slice(at, at + size)
                positions = torch.arange(at, at + size).expand(2, -1)
                out = module(
                    ids[:, here],
                    positions=positions,
                    targets=targets[:, here],
                    asks=frozenset({"logprob", "next_logits"}),
                    cache=cache,
                )
                wrong = modules.unlike({"logprob": out.logprob}, {"logprob": whole[:, here]}, self.tolerance)
                self._cached(wrong, f"when it goes on by {size} tokens after {at}")
                at, cache = at + size, out.cache

    def _one_by_one(self, module: nn.Module, ids: torch.Tensor, length: int) -> None:
        """As core generates; two sequences by turns, so that neither may be kept in the module."""
        ask, start = frozenset({"next_logits"}), max(1, length // 3)
        caches = [module(row[None, :start], asks=ask).cache for row in ids]
        if any(cache is None for cache in caches):
            raise NotApplicable("it keeps no cache; the whole sequence is read for every new token")
        for at in range(start, length):
            for number, row in enumerate(ids):
                positions = torch.tensor([[at]])
                out = module(row[None, at : at + 1], positions=positions, asks=ask, cache=caches[number])
                caches[number] = out.cache
                expected = module(row[None, : at + 1], asks=ask).next_logits
                wrong = modules.unlike(
                    {"next_logits": out.next_logits}, {"next_logits": expected}, self.tolerance, "token"
                )
                self._cached(wrong, f"at token {at}, after a prompt of {start}")

    def _cached(self, wrong: str, when: str) -> None:
        self.require(
            not wrong,
            f"{self.name} gives other answers with its cache than without, {when}",
            wrong,
            "let a new token see every token of the cache (a mask of T x (past + T), aligned at its bottom right), at "
            "the positions that are given, and put the cache into Outputs.cache, not into the module",
        )

    # --- asks -------------------------------------------------------------------------------------------------------

    def test_asks(self) -> None:
        """every quantity is the one that the logits after each prefix have; negative targets; several targets"""
        part = self.build()
        module, length = self.module(part), min(self._length(part), 10)
        (ids, targets), there = self._shown(part, 2), modules.answered(module)
        for ask in ("logprob", "next_logits"):
            remedy = "lmgraft.training.asks.compute answers all of them from hidden states and the head's weight"
            cause = "an objective, every evaluator and text generation ask for it"
            self.require(ask in there, f"{self.name} does not answer {ask}", cause, remedy)
        ids, targets = ids[:, :length], targets[:, :length].clone()
        targets[0, 1] = -1
        with torch.no_grad():
            last = frozenset({"next_logits"})
            logits = torch.stack([module(ids[:, : t + 1], asks=last).next_logits for t in range(length)], 1)
        expected, clear = _expected(logits, targets)
        together = modules.answers(module, ids, targets, sorted(there - {"next_logits"}))
        remedy = "ask lmgraft.training.asks.compute, or compare with its module's table; a negative target gives 0"
        for name, right in expected.items():
            if name not in there:
                continue
            for words, found in (("", modules.answers(module, ids, targets, [name])), (" among others", together)):
                left, goal = found[name], right
                if name == "greedy":  # where two tokens are as probable either may be the argmax
                    left, goal = (left & clear).float(), (right & clear).float()
                wrong = modules.unlike({name: left}, {name: goal}, self.tolerance)
                self.require(not wrong, f"{self.name}: {name}{words} is not that of its logits", wrong, remedy)
        self._value_of_prefixes(module, ids, targets, there)
        several = torch.stack([targets, (targets + 1) % self.vocab_size, torch.zeros_like(targets)], -1)
        right = _expected(logits[:, :, None].expand(-1, -1, 3, -1), several)[0]["logprob"]
        wrong = modules.unlike(modules.answers(module, ids, several, ["logprob"]), {"logprob": right}, self.tolerance)
        fact = f"{self.name}: logprob of several targets a position, (B, T, K), is not that of its logits"
        self.require(not wrong, fact, wrong, remedy)

    def _value_of_prefixes(
        self, module: nn.Module, ids: torch.Tensor, targets: torch.Tensor, there: frozenset[str]
    ) -> None:
        if "value" not in there:
            return
        whole = modules.answers(module, ids, targets, ["value"])
        for t in range(ids.shape[1]):
            part = modules.answers(module, ids[:, : t + 1], targets[:, : t + 1], ["value"])["value"][:, -1:]
            wrong = modules.unlike({"value": whole["value"][:, t : t + 1]}, {"value": part}, self.tolerance)
            fact = f"{self.name}: value at position {t} is not that of the prefix"
            self.require(not wrong, fact, wrong, "read the scalar head from each position's own hidden state")

    def test_only_what_is_asked(self) -> None:
        """what is not asked for is None, and what it cannot answer is refused with a Fault"""
        part = self.build()
        module = self.module(part)
        ids, targets = self._shown(part, 1)
        for ask in ("", *sorted(ASKS)):
            try:
                with torch.no_grad():
                    out = module(ids, targets=targets, asks=frozenset({ask} - {""}))
            except Fault:
                continue
            others = [name for name in sorted(ASKS - {ask}) if getattr(out, name) is not None]
            self.require(
                not others,
                f"{self.name} gives {', '.join(others)} when asked for {ask or 'nothing'}",
                "each quantity costs a pass over the logits",
                "fill in Outputs only what `asks` names",
            )
            fact = f"{self.name} passes over the ask {ask}"
            remedy = f"set Outputs.{ask} where `asks` holds it, or raise lmgraft.errors.Fault"
            self.require(not ask or getattr(out, ask) is not None, fact, "it was asked for, and is None", remedy)
        try:
            module(ids, targets=targets, asks=frozenset({"no_such_quantity"}))
        except Fault:
            return
        remedy = 'raise lmgraft.errors.Fault(f"cannot answer {name}") for names that it does not know'
        self.require(False, f"{self.name} passes over an ask that nobody knows", "it answered without a word", remedy)


def _chunks(length: int) -> Iterator[int]:
    """A prompt, then runs of one to five tokens."""
    left, sizes = length, iter((max(1, length // 4), 1, 3, 1, 5, 2))
    while left > 0:
        size = min(left, next(sizes, 4))
        left -= size
        yield size


def _expected(logits: torch.Tensor, targets: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What follows from logits (..., V) by the definitions, and where the most probable token is a clear one."""
    logprobs = torch.log_softmax(logits.double(), -1)
    picked = logprobs.gather(-1, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets < 0, 0.0)
    top = logprobs.topk(2, -1).values
    found = {
        "logprob": picked.float(),
        "logsumexp": torch.logsumexp(logits.double(), -1).float(),
        "entropy": -(logprobs.exp() * logprobs).sum(-1).float(),
        "vocab_mean": logprobs.mean(-1).float(),
        "greedy": logprobs.argmax(-1) == targets,
    }
    return found, top[..., 0] - top[..., 1] > 1e-3
