"""The evaluator: on held-out pairs, how often a model finds the chosen answer likelier than the rejected one.

What is counted
- ``preference_accuracy``: the share of pairs whose chosen answer has the higher log-probability, summed over the
  answer's tokens and the end token that closes it, as preference tuning sums it. Ties count half.
- ``preference_accuracy_per_token``: the same with the mean over those tokens, which a short answer does not win by
  being short.
- ``length_accuracy``, beside the model: the rule "the longer answer" or "the shorter answer" (characters; ties half),
  whichever of the two is right more often on these very pairs. So it is never below one half, and it errs in favour of
  the rule; a model that does not beat it has shown no more than a taste for length.

A model is asked alone: no reference is subtracted. The accuracy of implicit rewards, against the reference that a
preference tuning started from, is what its train stage reports as ``val_accuracy``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from lmgraft import chat
from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import EvaluationData, Score
from lmgraft.seams.parallelism import ModelHandle
from lmgraft.seams.tokenizer import TextTokenizer

from lmgraft_preference.plugin import PreferenceConfig
from lmgraft_preference.shares import Tally

__all__ = ["Preference"]

COLUMNS = frozenset({"chosen", "rejected"})
#: Far above what rounding does to a mean in float64, far below what a model's float32 can tell apart.
ROUNDING = 1e-12

T = TypeVar("T")
Request = tuple[Sequence[int], Sequence[int]]


@dataclass
class _Counts:
    summed: Tally = field(default_factory=Tally)
    mean: Tally = field(default_factory=Tally)
    longer: Tally = field(default_factory=Tally)
    shorter: Tally = field(default_factory=Tally)
    overlong: int = 0
    asked: Any = field(default_factory=hashlib.sha256)
    """Of the pairs that were counted, in order: two scores with one digest are of the same questions."""


class Preference:
    """Implements :class:`lmgraft.seams.evaluator.Evaluator`; streams, so memory does not grow with the corpus."""

    def __init__(self, config: PreferenceConfig) -> None:
        self._config = config

    def run(
        self, handle: ModelHandle, tokenizer: TextTokenizer, *, data: EvaluationData, limit: int | None
    ) -> list[Score]:
        """``limit`` counts pairs, those that do not fit the context included.

        :raises UserError: no pair is held out, none fits, or one has nothing to choose between.
        """
        template = tokenizer.chat_template or self._config.template
        counts = _Counts()
        for group in _chunks(islice(data.documents("validation", COLUMNS), limit), self._config.batch):
            fitting = list(_fitting(group, tokenizer, template, handle.context, counts))
            scored = handle.score([request for _, pair in fitting for request in pair])
            for (document, _), chosen, rejected in zip(fitting, scored[::2], scored[1::2], strict=True):
                _count(document, chosen.logprobs, rejected.logprobs, counts)
        if not counts.summed.count:
            raise UserError(_nothing(counts.overlong, handle.context))
        return _scores(counts)


def _fitting(
    documents: Iterable[Document], tokenizer: TextTokenizer, template: str, context: int, counts: _Counts
) -> Iterator[tuple[Document, tuple[Request, Request]]]:
    for document in documents:
        _check(document)
        pair = _requests(document, tokenizer, template)
        if max(len(prefix) + len(answer) for prefix, answer in pair) > context + 1:
            counts.overlong += 1
        else:
            yield document, pair


def _requests(document: Document, tokenizer: TextTokenizer, template: str) -> tuple[Request, Request]:
    """(prompt, answer) of the chosen and of the rejected one, as the model would read and write them."""
    before = document.messages or [{"role": "user", "content": document.prompt}]
    try:
        prompt = chat.encode_prompt(before, tokenizer, template)
        chosen, rejected = (
            chat.encode_chat([*before, {"role": "assistant", "content": answer}], tokenizer, template)[0]
            for answer in (document.chosen, document.rejected)
        )
    except UserError as error:
        row = f"evaluator preference: row {document.id!r}"
        raise UserError([Problem(f"{row}: {p.fact}", p.cause, p.remedy) for p in error.problems]) from error
    return (prompt, chosen[len(prompt) :]), (prompt, rejected[len(prompt) :])


def _check(document: Document) -> None:
    empty = [name for name in ("chosen", "rejected") if not (getattr(document, name) or "").strip()]
    if not document.messages and not (document.prompt or "").strip():
        empty.insert(0, "prompt")
    if empty:
        what, cause = f"has no {' and no '.join(empty)}", "a pair is a prompt with a chosen and a rejected answer"
    elif document.chosen == document.rejected:
        what, cause = "chooses between two equal answers", "whatever the model, such a pair is a tie"
    else:
        return
    raise UserError(
        Problem(f"evaluator preference: row {document.id!r} {what}", cause, "take the row out of the pairs")
    )


def _count(document: Document, chosen: Sequence[float], rejected: Sequence[float], counts: _Counts) -> None:
    chosen_sum, rejected_sum = math.fsum(chosen), math.fsum(rejected)
    counts.summed.add(chosen_sum, rejected_sum)
    means = chosen_sum / len(chosen), rejected_sum / len(rejected)
    # Means of equal numbers differ in their last bit where there are not as many: that is a tie, too.
    counts.mean.add(*(means[:1] * 2 if math.isclose(*means, rel_tol=ROUNDING) else means))
    lengths = [len(document.chosen or ""), len(document.rejected or "")]
    counts.longer.add(lengths[0], lengths[1])
    counts.shorter.add(lengths[1], lengths[0])
    before = [f"{turn.get('role')}: {turn.get('content')}" for turn in document.messages or ()]
    for text in (*before, document.prompt, document.chosen, document.rejected):
        data = (text or "").encode("utf-8", "surrogatepass")
        counts.asked.update(b"%d " % len(data) + data)


def _nothing(overlong: int, context: int) -> Problem:
    fact = "evaluator preference: there is no held-out pair to ask"
    if overlong:
        cause = f"all {overlong} of them are longer than the model's context of {context} tokens"
        return Problem(fact, cause, "hold out shorter pairs, or give the model a longer context")
    cause = "no corpus of the stage has the columns chosen and rejected and a validation split"
    return Problem(fact, cause, "name the corpus of pairs in the stage's corpus field, and set its validation_bytes")


def _scores(counts: _Counts) -> list[Score]:
    def score(name: str, tally: Tally, **more: Any) -> Score:
        low, high = tally.interval()
        detail = {
            "pairs": tally.count,
            "ties": tally.tied,
            "overlong": counts.overlong,
            "interval_95": [low, high],
            "interval": "Wilson, ties half",
            "sha256": counts.asked.hexdigest(),
        }
        reference = bool(more.pop("reference", False))
        return Score(name, tally.share, "", True, reference=reference, detail={**detail, **more})

    better = "longer" if counts.longer.share >= counts.shorter.share else "shorter"
    rules = {"rule": f"the {better} answer", "longer": counts.longer.share, "shorter": counts.shorter.share}
    return [
        score("preference_accuracy", counts.summed),
        score("preference_accuracy_per_token", counts.mean),
        score("length_accuracy", getattr(counts, better), reference=True, **rules),
    ]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
