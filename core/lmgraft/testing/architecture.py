"""The suite of seam ``architecture``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from lmgraft.component import ComponentConfig
from lmgraft.errors import UserError
from lmgraft.registry import build
from lmgraft.seams.architecture import Architecture
from lmgraft.testing import modules
from lmgraft.testing._architecture_answers import ArchitectureAnswers
from lmgraft.testing._architecture_caches import ArchitectureCaches
from lmgraft.testing._architecture_files import ArchitectureFiles
from lmgraft.testing._architecture_flops import ArchitectureFlops
from lmgraft.testing._architecture_settings import ArchitectureSettings
from lmgraft.testing.composing import compose_part

__all__ = ["ArchitectureSuite"]

Tensors = Mapping[str, torch.Tensor]

#: ``forward`` takes these by name, and nothing else without a default.
_ARGUMENTS = ("tokens", "positions", "segments", "targets", "asks", "cache")
#: A model that is built on ``meta`` may make this much elsewhere: a few frequencies, no tables.
_SMALL = 64 * 1024
_MASK = (
    "mask attention (and whatever else mixes positions) with `segments`: equal numbers see one another, -1 is padding"
)


class ArchitectureSuite(
    ArchitectureFiles, ArchitectureFlops, ArchitectureSettings, ArchitectureAnswers, ArchitectureCaches
):
    """Holds an architecture to the rules of :mod:`lmgraft.seams.architecture`.

    Give small ``settings`` where the defaults make more than 30 million parameters. The kit fills the weights
    (:meth:`draw`); a part whose weights need a range of their own overrides that.
    """

    # --- building ---------------------------------------------------------------------------------------------------

    def test_meta_allocates_nothing(self) -> None:
        """on "meta" every parameter and buffer is on meta, and no table is made elsewhere; in every size it ships"""
        for words, config, vocab_size in self._sizes():
            part: Architecture = build(self.installed.component, config)
            with modules.allocations() as made:
                module = part.build(vocab_size)
            remedy = 'make the module inside `with torch.device(device):`, and leave device="meta" as the default'
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                fact = f"{self.name} {words}: {name} lies on {tensor.device} after build(vocab_size)"
                self.require(tensor.is_meta, fact, "a model of 70 billion parameters is looked at on meta", remedy)
            self.require(
                made.largest <= _SMALL,
                f"{self.name} {words}: build on meta makes a tensor of {made.largest:,} bytes elsewhere",
                "building on meta is how a plan or a table of sizes is made, and must cost nothing",
                f"{remedy}; compute tables in forward, or register them as buffers",
            )

    def test_build_on_a_device(self) -> None:
        """build on the CPU has the same float32 parameters, for engines that need its buffers filled"""
        part = self.build()
        self.module(part)  # a huge one is refused here
        outline, real = (dict(part.build(self.vocab_size, at).named_parameters()) for at in ("meta", "cpu"))
        remedy = "let `build` differ by nothing but the device"
        left, right = ({name: list(one.shape) for name, one in found.items()} for found in (outline, real))
        self.require_equal(left, right, f"{self.name} is another model on the CPU than on meta", remedy)
        for name, one in real.items():
            fact = f"{self.name}: {name} is {one.dtype} on {one.device} after build(vocab_size, 'cpu')"
            fits = one.dtype == torch.float32 and one.device.type == "cpu"
            self.require(fits, fact, "weights are float32; autocast makes products bfloat16", remedy)

    def test_forward_arguments(self) -> None:
        """`forward` has the arguments of the contract, and positions default to 0, 1, 2 ..."""
        import inspect

        part = self.build()
        module = self.module(part)
        given = inspect.signature(module.forward).parameters
        missing = [name for name in _ARGUMENTS if name not in given]
        needed = [name for name, one in given.items() if name != "tokens" and one.default is one.empty]
        self.require(
            not missing and not needed,
            f"the module of {self.name} has forward({', '.join(given)})",
            f"missing: {', '.join(missing) or 'none'}; without a default beside tokens: {', '.join(needed) or 'none'}",
            "def forward(self, tokens, positions=None, segments=None, targets=None, asks=(), cache=None)",
        )
        ids, targets = self._shown(part, 2)
        plain = modules.answers(module, ids, targets, self._asks(module))
        counted = torch.arange(ids.shape[1]).expand_as(ids)
        told = modules.answers(
            module, ids, targets, self._asks(module), positions=counted, segments=torch.zeros_like(ids)
        )
        found = modules.unlike(plain, told, self.tolerance)
        remedy = "positions None counts from 0 in each row; segments None is one segment a row"
        self.require(not found, f"{self.name} without positions and segments gives other answers", found, remedy)

    # --- who sees whom ----------------------------------------------------------------------------------------------

    def test_rows_are_apart(self) -> None:
        """rows of one batch do not see one another, nor one another's segments and positions"""
        part = self.build()
        module, length = self.module(part), self._length(part)
        ids, targets = self._shown(part, 3)
        # Row i is one document or two: what is taken from the first row for all of them is wrong in the others.
        second = torch.arange(length) >= torch.tensor([length, length // 2, length // 3])[:, None]
        positions = torch.arange(length) - second * torch.tensor([0, length // 2, length // 3])[:, None]
        for words, given in (("", {}), (" packed", {"segments": second.long(), "positions": positions})):
            self._rows_apart(module, ids, targets, given, words)

    def _rows_apart(
        self, module: nn.Module, ids: torch.Tensor, targets: torch.Tensor, given: Tensors, words: str
    ) -> None:
        groups = [(self._asks(module), "position")]
        if "next_logits" in modules.answered(module):
            groups.append((["next_logits"], "token"))
        for asks, where in groups:
            together = modules.answers(module, ids, targets, asks, **given)
            for row in range(len(ids)):
                at = slice(row, row + 1)
                own = {name: one[at] for name, one in given.items()}
                alone = modules.answers(module, ids[at], targets[at], asks, **own)
                here = {ask: one[at] for ask, one in together.items()}
                wrong = modules.unlike(here, alone, self.tolerance, where)
                self.require(
                    not wrong,
                    f"{self.name} mixes the rows of a batch: row {row} of {len(ids)}{words} answers otherwise alone",
                    f"{wrong}, which it gives alone".replace("at row 0", f"at row {row}"),
                    "dimension 0 is the batch, and each row of it a sequence of its own: let no mean, norm, roll, "
                    "cumsum or softmax run over dimension 0 (take 1 or -1), and use each row's own `positions` and "
                    "`segments`, not those of row 0",
                )

    def test_causality(self) -> None:
        """what comes out at a position depends on no later token"""
        part = self.build()
        module = self.module(part)
        (ids, targets), length = self._shown(part, 1), self._length(part)
        # Row i differs from the first one from token i on.
        rows = ids.repeat(length + 1, 1)
        for first in range(length):
            rows[first + 1, first:] = (rows[first + 1, first:] + 1) % self.vocab_size
        given = targets.expand_as(rows)
        found = modules.answers(module, rows, given, self._asks(module))
        for first in range(length):
            before = {ask: one[first + 1 : first + 2, :first] for ask, one in found.items()}
            wrong = modules.unlike(before, {ask: one[:1, :first] for ask, one in found.items()}, self.tolerance)
            self.require(
                not wrong,
                f"{self.name} looks ahead: answers before position {first} change with the tokens from {first} on",
                f"{wrong}, with other later tokens",
                "mask what a position sees: `mask[t, s]` is true for s <= t only (torch.ones(T, T).tril()), "
                "and shift nothing to the left; convolutions are padded at their left",
            )
            here = {ask: one[first + 1 : first + 2, first:] for ask, one in found.items()}
            same = not modules.unlike(here, {ask: one[:1, first:] for ask, one in found.items()}, 1e-6)
            self.require(
                not same,
                f"{self.name} gives the same answers whatever token {first} is",
                "all tokens from there on were replaced by others, and no answer at or after it changed",
                "read `tokens` in forward; a draw() of the suite may have filled a weight with zeros",
            )

    def test_padding_changes_nothing(self) -> None:
        """padding at the right or the left (segments -1) changes no answer and no gradient, and gives no NaN"""
        part = self.build()
        module, length = self.module(part), self._length(part)
        ids, targets = self._shown(part, 2)
        size = length - max(1, length // 4)
        ids, targets = ids[:, :size], targets[:, :size]
        expected = modules.answers(module, ids, targets, self._asks(module))
        slopes = modules.gradients(module, module(ids, targets=targets, asks=frozenset({"logprob"})))
        for side, at in (("right", slice(0, size)), ("left", slice(length - size, length))):
            given = _placed(ids, targets, at, length)
            out = modules.answers(module, asks=self._asks(module), **given)
            wrong = modules.unlike({ask: one[:, at] for ask, one in out.items()}, expected, self.tolerance)
            fact = f"{self.name} gives other answers with padding at the {side}"
            self.require(not wrong, fact, wrong, _MASK)
            lost = next((ask for ask, one in out.items() if not one.isfinite().all()), "")
            remedy = "let padding see padding, itself at least, so that no row of a softmax is empty"
            self.require(not lost, f"{self.name}: {lost} on padding is not finite", "NaN times 0 is NaN", remedy)
            found = modules.gradients(module, module(**_named(given), asks=frozenset({"logprob"})))
            self._gradients_equal(found, slopes, f"with padding at the {side}")

    def test_packing_changes_nothing(self) -> None:
        """documents in one row, apart by segments, give the answers and the gradient that they give alone"""
        part = self.build()
        module, length = self.module(part), self._length(part)
        ids, targets = self._shown(part, 1)
        first, third = length // 2, length - 1
        spans = [slice(0, first), slice(first, third), slice(third, length)]
        alone = [modules.answers(module, ids[:, span], targets[:, span], self._asks(module)) for span in spans]
        expected = {ask: torch.cat([one[ask] for one in alone], 1) for ask in alone[0]}
        given = {
            "positions": torch.cat([torch.arange(span.stop - span.start) for span in spans])[None],
            "segments": torch.cat([torch.full((span.stop - span.start,), n) for n, span in enumerate(spans)])[None],
        }
        wrong = modules.unlike(
            modules.answers(module, ids, targets, self._asks(module), **given), expected, self.tolerance
        )
        self.require(not wrong, f"{self.name}: documents packed into one row see one another", wrong, _MASK)
        slopes = [
            modules.gradients(module, module(ids[:, s], targets=targets[:, s], asks=frozenset({"logprob"})))
            for s in spans
        ]
        total = {name: torch.stack([one[name] for one in slopes if name in one]).sum(0) for name in slopes[0]}
        out = module(ids, targets=targets, asks=frozenset({"logprob"}), **given)
        self._gradients_equal(modules.gradients(module, out), total, "packed")

    # --- learning ---------------------------------------------------------------------------------------------------

    def test_gradients_reach_everything(self) -> None:
        """every parameter learns from the next token, in float32, also where autocast makes products bfloat16"""
        part = self.build()
        module = self.module(part).train()
        ids, targets = self._shown(part, 4)
        asks = frozenset({"logprob", "value"} & modules.answered(module))
        for words, kind in (("", torch.float32), (" under autocast to bfloat16", torch.bfloat16)):
            module.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
                out = module(ids, targets=targets, asks=asks)
            parts = [getattr(out, ask) for ask in asks]
            remedy = "convert to float32 before the softmax, as lmgraft.training.asks.compute does"
            fact = f"{self.name}{words} answers in {', '.join(sorted({str(one.dtype) for one in parts}))}"
            self.require(all(one.dtype == torch.float32 for one in parts), fact, "answers are float32", remedy)
            total = torch.stack([*(one.sum() for one in parts), *out.model_losses.values()]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            for name, parameter in module.named_parameters():
                self._learns(part, name, parameter, words)

    def _learns(self, part: Architecture, name: str, parameter: nn.Parameter, words: str) -> None:
        slope = parameter.grad
        remedy = "read it in forward (through the module itself, not a copy or `.data`), or make it a buffer"
        fact = f"{self.name}{words}: no gradient reaches {name}"
        self.require(slope is not None, fact, "the sum of the log-probabilities does not depend on it", remedy)
        assert slope is not None
        self.require(
            bool(slope.isfinite().all()) and slope.dtype == torch.float32,
            f"{self.name}{words}: the gradient of {name} is not finite, or not float32",
            f"it is {slope.dtype}, with a largest entry of {max(slope.abs().flatten().tolist(), default=0.0):.3g}",
            "keep weights float32 and sums (norms, softmax) in float32",
        )
        # A bias may cancel out: softmax does not see a key's.
        silent = not slope.any() and part.role(name).role.value != "bias"
        self.require(not silent, fact, "its gradient is 0 everywhere", remedy)

    # --- several texts at once ----------------------------------------------------------------------------------------

    def test_rows_of_a_cache(self) -> None:
        """rows whose caches are joined and taken out, whatever their lengths and order, go on as each would alone"""
        self._rows_of_a_cache()

    def test_generation_module(self) -> None:
        """the module that generation() gives answers as the module does, whole, with its cache, and row by row"""
        self._generation_module()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _sizes(self) -> Iterator[tuple[str, ComponentConfig, int]]:
        yield "as the suite has it", self.compose(), self.vocab_size
        for variant in self.installed.component.variants:
            words = f"({self.component}/{variant})"
            try:
                config = compose_part(self.seam, self.component, self.prepare(), self.folder, variant)
            except UserError:  # it has settings without a default
                values = {**self.settings, **self.prepare()}
                config = compose_part(self.seam, self.component, values, self.folder, variant)
            yield words, config, 32_000

    def _gradients_equal(self, found: Tensors, expected: Tensors, words: str) -> None:
        distance, name = modules.apart(found, expected)
        self.require(
            distance <= 10 * self.tolerance,
            f"{self.name} has another gradient {words}",
            f"that of {name} is {distance:.2g} of its length away",
            _MASK,
        )


def _placed(ids: torch.Tensor, targets: torch.Tensor, at: slice, length: int) -> dict[str, torch.Tensor]:
    """The rows at ``at`` within ``length`` positions, padding around them."""
    rows, size = ids.shape
    found = {
        "ids": torch.zeros(rows, length, dtype=torch.int64),
        "targets": torch.full((rows, length), -1),
        "segments": torch.full((rows, length), -1),
        "positions": torch.zeros(rows, length, dtype=torch.int64),
    }
    found["ids"][:, at], found["targets"][:, at], found["segments"][:, at] = ids, targets, 0
    found["positions"][:, at] = torch.arange(size)
    return found


def _named(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"tokens" if name == "ids" else name: value for name, value in given.items()}
