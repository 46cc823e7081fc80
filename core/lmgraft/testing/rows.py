"""Documents as batches, by the code that makes them in training, and one step's arithmetic over such batches."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import torch

from lmgraft.artifacts import corpus
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Example, Loss, Objective
from lmgraft.seams.tokenizer import TextTokenizer, first_id
from lmgraft.testing.outcome import Nonconforming
from lmgraft.training.examples import Examples
from lmgraft.training.laying import Encoding, encode
from lmgraft.training.settings import repeatable

__all__ = [
    "Model",
    "Passed",
    "check_loss",
    "collated",
    "contents",
    "infinite",
    "joined",
    "parting",
    "permuted",
    "referred",
    "take_step",
    "widened",
    "windows",
]

#: More than any document of the kit makes: nothing is left out for its length.
SEQ_LEN = 1 << 20
#: Sums in another order come out this much otherwise in float32, of their largest entry.
TOLERANCE = 1e-3


class Model(Protocol):
    def answer(self, batch: Batch, asks: frozenset[str]) -> Outputs: ...

    def gradient(self) -> Mapping[str, torch.Tensor]: ...


class _Scored:
    """An objective whose examples bring a reference's log-probability along, as a score stage's artifact would."""

    def __init__(self, objective: Objective, score: Callable[[Example], float]) -> None:
        self._objective, self._score = objective, score
        self.values: Callable[[], frozenset[str]] = getattr(objective, "values", frozenset)

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        found = self._objective.encode(document, tokenizer)
        if "reference" not in self.values():
            return found
        return [
            dataclasses.replace(example, values={**example.values, "reference": self._score(example)})
            for example in found
        ]


def collated(
    objective: Objective,
    documents: Sequence[Document],
    tokenizer: TextTokenizer,
    folder: Path,
    score: Callable[[Example], float],
) -> Examples:
    """The encoded file that a train stage would write of ``documents``; ``score`` fills the value ``reference``."""
    place, out = folder / "corpus", folder / "examples.arrow"
    content = {name for name in corpus.CONTENT if any(getattr(document, name) is not None for document in documents)}
    place.mkdir(parents=True)
    with corpus.CorpusWriter(place / corpus.shard_name("train", 0, 1), content) as writer:
        writer.write(corpus.to_batch(documents, "kit"))
    wrapped: Any = _Scored(objective, score)
    how = Encoding(
        corpus=place, split="train", objective=wrapped, tokenizer=tokenizer, seq_len=SEQ_LEN, stage="conformance"
    )
    encode(how, out, lambda _text, _number: nullcontext(_Silent()))
    return Examples(out, tokenizer.pad_id)


class _Silent:
    def advance(self, amount: float = 1, **shown: Any) -> None:
        pass

    def total(self, amount: float) -> None:
        pass


# --- the same data, otherwise -----------------------------------------------------------------------------------------


def widened(batch: Batch, *, columns: int, rows: int, vocab_size: int, seed: int) -> Batch:
    """The batch with more padding: at the right, and as rows of no unit; any ids stand where nothing is read."""
    generator = torch.Generator().manual_seed(seed)
    height, width = batch.tokens.shape

    def grown(old: torch.Tensor, fill: int) -> torch.Tensor:
        new = torch.full((height + rows, width + columns), fill, dtype=old.dtype)
        new[:height, :width] = old
        return new

    targets = grown(batch.targets, -1)
    segments = grown(batch.segments if batch.segments is not None else torch.zeros_like(batch.targets), -1)
    garbage = torch.randint(vocab_size, targets.shape, generator=generator)
    return dataclasses.replace(
        batch,
        tokens=torch.where(segments < 0, garbage, grown(batch.tokens, 0)),
        targets=targets,
        weights=grown(batch.weights, 0),
        positions=grown(batch.positions, 0),
        segments=segments,
        unit=None if batch.unit is None else torch.cat([batch.unit, batch.unit.new_full((rows,), -1)]),
        role=None if batch.role is None else torch.cat([batch.role, batch.role.new_zeros(rows)]),
        values={name: torch.cat([value, value.new_zeros(rows)]) for name, value in batch.values.items()},
    )


def permuted(batch: Batch, seed: int) -> Batch:
    """The same rows in another order; what belongs together is known by ``unit`` and ``role``."""
    order = torch.randperm(len(batch.tokens), generator=torch.Generator().manual_seed(seed))
    moved = {
        spec.name: value[order]
        for spec in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, spec.name), torch.Tensor)
    }
    return dataclasses.replace(batch, **moved, values={name: value[order] for name, value in batch.values.items()})


def joined(batches: Sequence[Batch]) -> Batch:
    """Windows of packed text as one batch."""
    return Batch(
        tokens=torch.cat([batch.tokens for batch in batches]),
        targets=torch.cat([batch.targets for batch in batches]),
        weights=torch.cat([batch.weights for batch in batches]),
        positions=torch.cat([batch.positions for batch in batches]),
    )


def windows(texts: Sequence[str], tokenizer: TextTokenizer, width: int) -> list[Batch]:
    """Rows (1, width) of packed text as a tokens stage and the loader make them: no unit and no role."""
    encoded, begin = tokenizer.encode_batch(texts), first_id(tokenizer)
    stream = [token for ids in encoded for token in (*ids, tokenizer.end_id)]
    read = [token for ids in encoded for token in (*ids, begin)]  # an end is predicted, and read as a beginning
    found = []
    for start in range(0, len(stream) - width, width):
        tokens = torch.tensor(read[start : start + width])[None]
        targets = torch.tensor(stream[start + 1 : start + width + 1])[None]
        found.append(Batch(tokens, targets, torch.ones(1, width), torch.arange(width)[None]))
    return found


# --- one step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passed:
    """What one step over some microbatches came to."""

    totals: dict[str, float]
    terms: dict[str, float]
    """Sums over all microbatches."""
    metrics: dict[str, tuple[float, float]]
    gradient: dict[str, torch.Tensor]
    """Of the sum over k of terms[k] / totals[k], with respect to the model's weights."""


def take_step(
    objective: Objective,
    model: Model,
    batches: Sequence[Batch],
    checked: Callable[[Loss, Mapping[str, float]], None],
) -> Passed:
    """What an engine does with the microbatches of one step; ``checked`` sees each loss before it is used."""
    with repeatable(1):
        totals: dict[str, float] = defaultdict(float)
        for batch in batches:
            for name, amount in objective.normalizers(batch).items():
                totals[name] += amount
        shared = _shared(objective, model, batches)
        terms: dict[str, float] = defaultdict(float)
        metrics: dict[str, tuple[float, float]] = {}
        gradient: dict[str, torch.Tensor] = {}
        for batch in batches:
            loss = objective.loss(model.answer(batch, objective.asks), batch, shared)
            checked(loss, totals)
            value = torch.stack([term.float() / (totals[name] or 1.0) for name, term in loss.terms.items()]).sum()
            value.backward()  # type: ignore[no-untyped-call]
            for name, arrived in model.gradient().items():
                gradient[name] = gradient[name] + arrived if name in gradient else arrived
            for name, term in loss.terms.items():
                terms[name] += float(term.detach())
            for name, (amount, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = (before[0] + float(amount), before[1] + float(count))
    return Passed(dict(totals), dict(terms), metrics, gradient)


def check_loss(name: str, loss: Loss, totals: Mapping[str, float]) -> None:
    """Whether an engine can use what the objective ``name`` returned.

    :raises Nonconforming: it cannot.
    """
    if not loss.terms or set(loss.terms) != set(totals):
        raise Nonconforming(
            f"{name} returns the terms {sorted(loss.terms)} and the normalizers {sorted(totals)}",
            "term k is divided by the total of normalizer k",
            "use the same names in both, whatever the batch holds",
        )
    for key, term in loss.terms.items():
        if not isinstance(term, torch.Tensor) or term.dim() or not term.is_floating_point():
            raise Nonconforming(
                f"the term {key!r} of {name} is no scalar tensor",
                f"terms are sums over the whole microbatch, and it is {tuple(getattr(term, 'shape', ())) or term!r}",
                "end with .sum()",
            )
    if not any(term.requires_grad for term in loss.terms.values()):
        raise Nonconforming(
            f"no term of {name} has a gradient",
            "none was computed from `out` with gradients",
            "do not detach() what is to be learnt; a sum over no row is (out.logprob * 0).sum()",
        )
    for key, pair in loss.metrics.items():
        if not isinstance(pair, tuple) or [isinstance(part, float | int) for part in pair] != [True, True]:
            raise Nonconforming(
                f"the metric {key!r} of {name} is {pair!r}",
                "metrics are added up over microbatches and ranks, as plain numbers",
                f'metrics={{"{key}": (float(total), float(count))}}',
            )


def _shared(objective: Objective, model: Model, batches: Sequence[Batch]) -> Mapping[str, Any]:
    prepare = getattr(objective, "prepare", None)
    shared: dict[str, Any] = {}
    if prepare is not None:
        for batch in batches:
            with torch.no_grad():
                for name, amount in prepare(model.answer(batch, objective.asks), batch).items():
                    shared[name] = shared[name] + amount if name in shared else amount
    return shared


def parting(first: Passed, second: Passed, factor: float = 1.0) -> str:
    """Where the sums of ``second`` are not ``factor`` times those of ``first``, or the gradients are not equal; empty
    where all is as it should be."""
    for what in ("totals", "terms"):
        one, other = getattr(first, what), getattr(second, what)
        for name in sorted({*one, *other}):
            wanted, got = factor * one.get(name, 0.0), other.get(name, 0.0)
            if abs(wanted - got) > TOLERANCE * max(abs(wanted), abs(got), 1e-3):
                word = "the normalizer" if what == "totals" else "the term"
                return f"{word} {name!r} is {got:.6g} and should be {wanted:.6g}"
    for name, wanted_gradient in first.gradient.items():
        apart = float((wanted_gradient - second.gradient[name]).abs().max())
        largest = float(wanted_gradient.abs().max())
        if apart > TOLERANCE * largest + 1e-9:
            return f"the gradient differs by up to {apart:.3g}, where its largest entry is {largest:.3g}"
    return ""


def infinite(found: Passed) -> str:
    """What is not finite, in words; empty where all is."""
    for name, term in found.terms.items():
        if not isfinite(term):
            return f"the term {name!r} is {term}"
    for name, gradient in found.gradient.items():
        if not bool(gradient.isfinite().all()):
            return f"the gradient of the term with respect to {name} is not finite"
    return next((f"the metric {name} is {pair}" for name, pair in found.metrics.items() if not isfinite(sum(pair))), "")


def referred(batch: Batch, number: float) -> Batch:
    """The batch with this as every sequence's value ``reference``, where it has one."""
    values = {name: torch.full_like(value, number) for name, value in batch.values.items() if name == "reference"}
    return dataclasses.replace(batch, values={**batch.values, **values})


def contents(record: Any) -> dict[str, Any]:
    """The bytes of every tensor of a batch or of outputs."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(entry) for name, entry in value.items()}
        return None if value is None else value.detach().clone().numpy().tobytes()

    return {spec.name: plain(getattr(record, spec.name)) for spec in dataclasses.fields(record) if spec.name != "cache"}
