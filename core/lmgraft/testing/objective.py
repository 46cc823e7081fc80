"""The suite of seam ``objective``: nothing but data decides what counts, and nothing but sums leaves it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.seams.architecture import ASKS
from lmgraft.testing._objective_base import SUMS, ObjectiveBase, ints
from lmgraft.testing.encoding import plain, values_of
from lmgraft.testing.outcome import NotApplicable

if TYPE_CHECKING:
    from lmgraft.testing.rows import Model

__all__ = ["ObjectiveSuite"]

#: What a model answers that is certain and right, and one that is certain and wrong.
_EXTREMES: tuple[Mapping[str, float], ...] = (
    {"logprob": 0.0, "logsumexp": 50.0, "entropy": 0.0, "vocab_mean": -50.0, "value": 50.0},
    {"logprob": -100.0, "logsumexp": -50.0, "entropy": 5.0, "vocab_mean": -5.0, "value": -50.0},
)


class ObjectiveSuite(ObjectiveBase):
    """Holds an objective to the rules of :mod:`lmgraft.seams.objective`.

    The objective encodes ``count`` documents with its columns, core makes batches of them as for training, and a bigram
    table answers what is asked; a value ``reference`` comes from another table. Override :meth:`documents` where the
    objective needs more than columns (a label in ``meta``, say).
    """

    def behaviour(self, part: Any) -> Any:
        found = self._step(part, self._parts(part))
        gradient = {name: tensor.numpy().tobytes() for name, tensor in found.gradient.items()}
        return {
            "examples": [[plain(e) for e in examples] for examples in self._encoded(part)],
            "totals": found.totals, "terms": found.terms, "metrics": found.metrics, "gradient": gradient,
        }  # fmt: skip

    # --- the loss ---------------------------------------------------------------------------------------------------

    def test_asks_are_known(self) -> None:
        """it asks for quantities that models answer, and reads no others"""
        part = self.build()
        asks = part.asks
        known = ASKS - {"next_logits"}
        self.require(
            isinstance(asks, frozenset) and bool(asks) and asks <= known,
            f"{self.name} asks for {asks!r}",
            f"a model answers {', '.join(sorted(known))}",
            'give it as asks = frozenset({"logprob"}), with those names that `loss` reads',
        )
        model, (batch,) = self._model(), self._parts(part, [self.count])
        out = model.answer(batch, known)
        shared = dict(part.prepare(out, batch)) if hasattr(part, "prepare") else {}
        part.loss(out, batch, shared)
        self.require(
            out.read <= asks,
            f"{self.name} reads {', '.join(sorted(out.read - asks))} and does not ask for it",
            f"asks is {sorted(asks)}; what is not asked for is None in a run",
            f"asks = frozenset({sorted(asks | out.read)})",
        )

    def test_padding_changes_nothing(self) -> None:
        """longer padding, rows of padding and whatever stands or is answered there change no sum and no gradient"""
        from lmgraft.testing.rows import parting, widened

        part = self.build()
        size = self._size()
        for batch in [*self._parts(part, [self.count]), *self._packed(part)]:
            base = self._step(
                part, [batch], at="packed text, which has no unit and no role" if batch.unit is None else ""
            )
            for columns, rows, seed in ((9, 0, 1), (0, 2, 2), (30, 3, 3)):
                wide = widened(batch, columns=columns, rows=rows, vocab_size=size, seed=seed)
                found = parting(base, self._step(part, [wide], at="rows of padding, which have unit -1"))
                self.require(
                    not found,
                    f"{self.name} depends on padding",
                    f"with {columns} columns and {rows} rows of padding more, {found}",
                    "multiply what is answered at each position with batch.weights * (batch.targets >= 0), "
                    "which is 0 on padding, before you sum; count units by batch.unit >= 0",
                )
        self._nothing(part)

    def test_microbatch_split_changes_nothing(self) -> None:
        """microbatches of one unit, uneven ones and the whole batch come to the same sums and the same gradient"""
        from lmgraft.testing.rows import parting

        part = self.build()
        units = len(self._examples(part))
        whole = self._step(part, self._parts(part, [units]))
        for sizes in ([1, units // 3, units - 1 - units // 3], [units - 1, 1], [1] * units):
            found = parting(whole, self._step(part, self._parts(part, sizes)))
            self.require(
                not found,
                f"{self.name} depends on the split into microbatches",
                f"in microbatches of {', '.join(map(str, sizes))} units instead of one of {units}, {found}",
                f"{SUMS}; what needs the whole batch belongs into `prepare`",
            )
        self._packed_split(part)

    def test_order_changes_nothing(self) -> None:
        """neither the order of units nor that of rows within a batch changes a sum or a gradient"""
        import numpy as np

        from lmgraft.testing.rows import parting, permuted

        part = self.build()
        examples = self._examples(part)
        units = np.arange(len(examples))
        base = self._step(part, [examples.batch(units)])
        turned = examples.batch(units[::-1])
        shuffled = [permuted(examples.batch(units), seed) for seed in (0, 1)]
        for batch, what in ((turned, "units"), *((batch, "rows") for batch in shuffled)):
            found = parting(base, self._step(part, [batch]))
            self.require(
                not found,
                f"{self.name} depends on the order of {what} in a batch",
                f"in another order {found}",
                "find what belongs together by batch.unit and batch.role, not by its place in the batch",
            )

    def test_loss_is_sums(self) -> None:
        """the same batch twice gives twice the terms and twice the normalizers"""
        from lmgraft.testing.rows import joined, parting

        part = self.build()
        examples = self._examples(part)
        units = list(range(len(examples)))
        pairs = [(examples.batch(ints(units)), examples.batch(ints([*units, *units])))]
        pairs += [(batch, joined([batch, batch])) for batch in self._packed(part)]
        for once, twice in pairs:
            found = parting(self._step(part, [once]), self._step(part, [twice]), factor=2)
            self.require(
                not found,
                f"{self.name} returns something else than sums",
                f"for the same {len(once.tokens)} rows twice, {found}",
                SUMS,
            )

    def test_metrics_are_sums(self) -> None:
        """metrics are (sum, count) and add up over microbatches"""
        part = self.build()
        units = len(self._examples(part))
        whole = self._step(part, self._parts(part, [units])).metrics
        split = self._step(part, self._parts(part, [1, units // 3, units - 1 - units // 3])).metrics
        if not whole:
            raise NotApplicable("it has no metrics")
        for name, pair in whole.items():
            for what, one, other in zip(("sum", "count"), pair, split.get(name, (math.nan, math.nan)), strict=True):
                self.require(
                    math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3),
                    f"the metric {name} of {self.name} is no sum and count",
                    f"its {what} is {one:.6g} over one batch and {other:.6g} over three microbatches of it",
                    f'metrics={{"{name}": (sum of it, number of things summed)}}; core divides',
                )

    def test_gradients_are_finite(self) -> None:
        """terms, metrics and gradients are finite however sure a model is, and whatever a reference says"""
        from lmgraft.testing.bigram import Bigram, Flat
        from lmgraft.testing.rows import infinite, referred

        part, size = self.build(), self._size()
        models: list[tuple[str, Model]] = [
            (f"logits of {scale:g} times the usual size", Bigram(size, seed=3, scale=scale)) for scale in (1, 30, 1000)
        ]
        models += [
            (f"a log-probability of {numbers['logprob']:g} for every token", Flat(**numbers)) for numbers in _EXTREMES
        ]
        (batch,) = self._parts(part, [self.count])
        for said in (None, 0.0, -1e4):
            held = batch if said is None else referred(batch, said)
            for what, model in models:
                found = self._step(part, [held], model)
                wrong = infinite(found)
                self.require(
                    not wrong,
                    f"{self.name} is not finite at {what}",
                    wrong + (f"; the value reference is {said:g}" if said is not None and batch.values else ""),
                    "clamp before log, sqrt and division; take logsigmoid, log1p, expm1 and softplus where they fit",
                )

    def test_normalizers_read_data_only(self) -> None:
        """totals come from the batch alone: the same before and after any loss, and of any build"""
        part = self.build()
        batches = self._parts(part)
        first = [dict(part.normalizers(batch)) for batch in batches]
        for total in (total for totals in first for total in totals.items()):
            self.require(
                isinstance(total[1], float | int) and math.isfinite(total[1]) and total[1] >= 0,
                f"the normalizer {total[0]!r} of {self.name} is {total[1]!r}",
                "denominators are numbers, finite and not negative; the engine adds them up over all ranks",
                "return float(weights.sum()), a float for each name",
            )
        for seed in (1, 2):
            self._step(part, batches, self._model(seed))
            self.require_equal(
                first,
                [dict(part.normalizers(batch)) for batch in batches],
                f"normalizers of {self.name} change once a loss was computed",
                "compute them from the batch alone and keep nothing of `out`: engines ask for all totals before the "
                "first forward pass, on ranks that see other microbatches",
            )
        fresh = self.build()
        turned = [dict(fresh.normalizers(batch)) for batch in batches[::-1]]
        self.require_equal(
            first,
            turned[::-1],
            f"normalizers of {self.name} depend on what it saw before",
            "compute them from the batch that is given, and keep nothing from one call to the next",
        )

    def test_batch_is_left_alone(self) -> None:
        """neither batch nor answers are written into"""
        from lmgraft.testing.rows import contents

        part, model, (batch,) = self.build(), self._model(), self._parts(self.build(), [self.count])
        out = model.answer(batch, part.asks)
        before = contents(batch), contents(out)
        shared = dict(part.prepare(out, batch)) if hasattr(part, "prepare") else {}
        part.normalizers(batch)
        part.loss(out, batch, shared)
        self.require_equal(
            before,
            (contents(batch), contents(out)),
            f"{self.name} writes into the batch or into the model's answers",
            "make new tensors instead of x += y, x.mul_(y) or x[mask] = y: the batch is used again",
        )

    def test_held_out_rows_are_scored(self) -> None:
        """answers without gradients, which validation gives, come to the same terms"""
        import torch

        part, model, (batch,) = self.build(), self._model(), self._parts(self.build(), [self.count])
        wanted = self._step(part, [batch], model)
        with torch.inference_mode():
            out = model.answer(batch, part.asks)
        shared = dict(part.prepare(out, batch)) if hasattr(part, "prepare") else {}
        found = {name: float(term) for name, term in part.loss(out, batch, shared).terms.items()}
        for name, amount in wanted.terms.items():
            self.require(
                math.isclose(amount, found.get(name, math.nan), rel_tol=1e-3, abs_tol=1e-6),
                f"the term {name!r} of {self.name} is {found.get(name)} on held-out rows and {amount} in training",
                "validation gives the same answers, without gradients",
                "let the loss depend on its arguments alone",
            )

    def test_packed_rows_are_rows(self) -> None:
        """where it says `packable`: rows that share a sequence come to the sums and the gradient of rows that do not"""
        from lmgraft.testing.rows import parting
        from lmgraft.training.packing import PackedExamples

        part = self.build()
        if "packable" not in self.compose().provides():
            raise NotApplicable("provides() of its settings does not say `packable`: its rows are never packed")
        self.require(
            not values_of(part),
            f"{self.name} is packable and reads {', '.join(sorted(values_of(part)))}",
            "values belong to sequences, and packed rows have none of their own",
            "leave `packable` out of provides()",
        )
        examples = self._examples(part)
        base = self._step(part, [examples.batch(ints(range(len(examples))))])
        for room in (1, 2, 5):
            packed = PackedExamples(examples, room * int(examples.lengths.max()))
            whole = ints(range(len(packed)))
            found = self._step(part, [packed.batch(whole)], at="packed rows, which have no unit and no role")
            apart = parting(base, found) or _other_metrics(base.metrics, found.metrics)
            self.require(
                not apart,
                f"{self.name} says `packable` and depends on which rows share a sequence",
                f"with {len(examples)} rows in {len(packed)} sequences, {apart}",
                "sum over tokens by batch.weights * (batch.targets >= 0), whatever row they are of; or leave "
                "`packable` out of provides()",
            )

    def test_encoding_names_its_settings(self) -> None:
        """what `encoding()` of its settings gives decides what `encode` makes: settings of its own, plain ones"""
        from lmgraft.component import result_fields
        from lmgraft.keys import canonical

        config = self.compose()
        if not hasattr(config, "encoding"):
            raise NotApplicable("its settings have no encoding(): all of them count")
        said, fields = dict(config.encoding()), result_fields(config)
        self.require(
            said == {name: fields.get(name) for name in said} and canonical(said) is not None,
            f"encoding() of {self.name} gives {said}",
            f"its settings are {fields}, and rows that were encoded once are compared by those that encoding() names",
            "return those fields that `encode` reads, by name: {" + '"template": self.template' + "}",
        )


def _other_metrics(wanted: Mapping[str, tuple[float, float]], found: Mapping[str, tuple[float, float]]) -> str:
    for name, pair in wanted.items():
        other = found.get(name, (math.nan, math.nan))
        if not all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3) for a, b in zip(pair, other, strict=True)):
            return f"the metric {name} is {other} and should be {pair}"
    return ""
