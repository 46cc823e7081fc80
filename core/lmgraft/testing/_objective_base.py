"""What the objectives' suite works with: encoded documents, batches of them, a model, one step's sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.errors import UserError
from lmgraft.seams.objective import Batch, Example
from lmgraft.testing.encoding import EncodingSuite, values_of
from lmgraft.testing.inputs import texts
from lmgraft.testing.outcome import Nonconforming

if TYPE_CHECKING:
    from lmgraft.testing.rows import Model, Passed
    from lmgraft.training.examples import Examples

__all__ = ["SUMS", "ObjectiveBase", "ints"]

SUMS = "return sums over the microbatch and let `normalizers` give the denominators"


class ObjectiveBase(EncodingSuite):
    """Documents through the objective and through core, as in training."""

    def _encoded(self, part: Any) -> list[list[Example]]:
        tokenizer = self._vocabulary()
        return [part.encode(row, tokenizer) for row in self.documents()]

    def _examples(self, part: Any) -> Examples:
        """Once for each part: a check asks for several batches of the same rows."""
        held: list[tuple[Any, Examples]] = self.__dict__.setdefault("_held", [])
        found = next((examples for one, examples in held if one is part), None)
        if found is None:
            found = self._collated(part, self.folder / f"encoded {len(held)}")
            held.append((part, found))
        return found

    def _collated(self, part: Any, folder: Path) -> Examples:
        from lmgraft.testing.rows import collated

        try:
            found = collated(part, self.documents(), self._vocabulary(), folder, self._reference)
        except UserError as error:
            first = error.problems[0]
            raise Nonconforming(
                f"{self.name} cannot learn from the kit's documents",
                f"{first.fact}: {first.cause}",
                "override documents() of the suite with rows that suit it",
            ) from error
        self.require(
            len(found) >= 4,
            f"{self.name} learns from {len(found)} of the kit's {self.count} documents",
            "for the others encode() gave nothing, and the checks need four units",
            "override documents() of the suite with rows that suit it",
        )
        return found

    def _parts(self, part: Any, sizes: Sequence[int] = (5, 3, 4)) -> list[Batch]:
        """Microbatches of so many units, in order; the last one takes what is left."""
        examples = self._examples(part)
        edges = [sum(sizes[:number]) for number in range(len(sizes))] + [len(examples)]
        spans = [range(start, min(stop, len(examples))) for start, stop in pairwise(edges)]
        return [examples.batch(ints(span)) for span in spans if len(span)]

    def _packed(self, part: Any) -> list[Batch]:
        """A window of packed tokens, where the objective can be trained on them: one that learns from text alone."""
        from lmgraft.testing.rows import joined

        rows = self._windows(part)
        return [joined(rows)] if rows else []

    def _windows(self, part: Any) -> list[Batch]:
        from lmgraft.testing.rows import windows

        if part.columns() != {"text"} or values_of(part):
            return []
        return windows([text[:60] for text in texts(8)], self._vocabulary(), 48)

    def _packed_split(self, part: Any) -> None:
        from lmgraft.testing.rows import joined, parting

        rows = self._windows(part)
        if rows:
            whole = self._step(part, [joined(rows)])
            found = parting(whole, self._step(part, [joined(rows[:2]), *rows[2:]]))
            self.require(
                not found,
                f"{self.name} depends on the split of packed text into microbatches",
                f"in {len(rows) - 1} microbatches instead of one, {found}",
                SUMS,
            )

    def _nothing(self, part: Any) -> None:
        """A rank that the data do not reach gets rows of padding only."""
        found = self._step(part, [self._examples(part).batch(ints([-1, -1]))], at="a microbatch of padding alone")
        wrong = next((f"{name} is {value}" for name, value in (found.totals | found.terms).items() if value), "")
        self.require(
            not wrong,
            f"{self.name} counts rows of padding",
            f"in a microbatch of nothing else {wrong}",
            "sum with batch.weights, and count units by batch.unit >= 0; a sum over no row is 0",
        )

    def _model(self, seed: int = 0) -> Any:
        from lmgraft.testing.bigram import Bigram

        return Bigram(self._size(), seed=seed)

    def _size(self) -> int:
        return self._vocabulary().vocab_size

    def _reference(self, example: Example) -> float:
        """What another model makes of a sequence: near what the first one does, and not equal to it."""
        import torch

        from lmgraft.testing.bigram import reference_shares

        ids = torch.tensor(example.tokens)
        return float((reference_shares(self._size())[ids[:-1], ids[1:]] * torch.tensor(example.weights[1:])).sum())

    def _step(self, part: Any, batches: Sequence[Batch], model: Model | None = None, at: str = "") -> Passed:
        """One step's sums and gradients. ``at`` says what is unusual about the batches, where something is."""
        from lmgraft.testing.rows import check_loss, take_step

        try:
            return take_step(part, model or self._model(), batches, partial(check_loss, self.name))
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            if not at or isinstance(error, Nonconforming):
                raise
            fact, cause = f"{self.name} breaks off at {at}", f"{type(error).__name__}: {error}"
            raise Nonconforming(
                fact, cause, "see `Batch` in lmgraft.seams.objective for what a batch may hold"
            ) from error


def ints(numbers: Sequence[int]) -> Any:
    """Numbers of units, as an array."""
    import numpy as np

    return np.asarray(list(numbers), dtype=np.int64)
