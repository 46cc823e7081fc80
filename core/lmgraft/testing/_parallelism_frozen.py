"""What is frozen keeps every bit, and what is trained is trained as in one process: the checks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import load_file

from lmgraft.seams.architecture import Role
from lmgraft.testing import _parallelism_frozen_work as work
from lmgraft.testing._parallelism_base import Told
from lmgraft.testing._parallelism_frozen_work import Case
from lmgraft.testing._parallelism_inputs import Setup
from lmgraft.testing._parallelism_steps import ParallelismSteps
from lmgraft.testing.outcome import NotApplicable

__all__ = ["ParallelismFrozen"]

#: Two movements of weights are equal within this share.
_ROUNDING = 0.05
_HOW = "lmgraft.training.freezing.trained gives what the optimizer is to be built with"

Tensors = Mapping[str, torch.Tensor]


class ParallelismFrozen(ParallelismSteps):
    """The checks of the cases in ``_parallelism_frozen_work``."""

    def test_frozen_weights_keep_every_bit(self) -> None:
        """what `trainable`, `trainable_layers` and frozen rows leave out keeps every bit; all others are trained"""
        for case in self._cases():
            for told in [*self.examined(), self.expected()]:
                words = f"{self.name} with {told.words}, {case.words}"
                start, end = _read(told, case, "start"), _read(told, case, "end")
                for name, before in start.items():
                    first = self._first(case, name, before)
                    self._keeps(f"{words}: {name}", before[:first], end[name][:first], first < len(before))
                    self._moves(f"{words}: {name}", before[first:], end[name][first:])

    def test_frozen_weights_have_no_state(self) -> None:
        """no optimizer state is kept of what is frozen; of a table with frozen rows it is that of the others"""
        for case in self._cases():
            for told in self.examined():
                words = f"{self.name} with {told.words}, {case.words}"
                weights = _read(told, case, "start")
                for name, moment in _read(told, case, "end", "optimizer").items():
                    owner = name.rpartition(".")[0]
                    whole = weights[owner]
                    rows = len(whole) - self._first(case, owner, whole)
                    fact = f"{words}: the checkpoint holds {name}"
                    self.require(rows > 0, fact, "nothing of that parameter is trained", _HOW)
                    self.require(
                        moment.dim() == 0 or len(moment) == rows,
                        f"{fact} of {len(moment) if moment.dim() else 1} rows",
                        f"{rows} of its {len(whole)} rows are trained, and other layouts read the state of those",
                        _HOW,
                    )

    def test_frozen_steps_are_equal(self) -> None:
        """what is trained is trained as in one process, and the norm is that of what is trained"""
        reference = self.expected()
        for case in self._cases():
            right = reference.first["frozen"][case.name]
            ends = {told.words: _read(told, case, "end") for told in [*self.examined(), reference]}
            start, end = _read(reference, case, "start"), ends[reference.words]
            far = _distance(start, end)
            for told in self.examined() if case.precision == "float32" else ():
                words = f"{self.name} with {told.words}, {case.words}"
                for step, (row, expected) in enumerate(zip(told.first["frozen"][case.name], right, strict=True)):
                    wrong = self.unlike(row, expected)
                    remedy = f"gradients, their norm and their sums over ranks are of what is trained; {_HOW}"
                    self.require(not wrong, f"{words}: step {step} differs from that of one process", wrong, remedy)
                away = _distance(ends[told.words], end)
                fact = f"{words}: the parameters after {work.STEPS} steps are not those of one process"
                cause = f"they lie {away / far:.2g} of the way apart, after equal losses and norms"
                self.require(away <= _ROUNDING * far, fact, cause, _HOW)

    def test_frozen_weights_are_not_in_the_norm(self) -> None:
        """gradients are clipped by the norm of what is trained"""
        if not list(work.cases(self._parts)):
            raise NotApplicable("the suite's architecture has neither embedding nor head")
        for told in self.examined():
            norm = told.first["frozen"]["clipped"]
            start, end = (_load(told, f"frozen-clipped-{when}") for when in ("start", "end"))
            gone, expected = _distance(start, end), min(work.CLIP, norm)
            self.require(
                abs(gone - expected) <= _ROUNDING * expected,
                f"{self.name} with {told.words} steps by a gradient of norm {gone:.4g}, where parts are frozen, with "
                f"clip={work.CLIP} and a norm of {norm:.4g}",
                "plain gradient descent at the rate 1 goes as far as the gradient that it was given is long",
                f"norm and clipping are of what is trained alone; {_HOW}",
            )

    def test_frozen_checkpoints_cross_sizes(self) -> None:
        """with parts frozen, what one size saves another one loads, and exports hold all weights"""
        first, *_ = self.resumed()
        for name in first.first["frozen"]:
            right = self.expected().first["frozen"][name][work.KEPT :]
            for reader in self.resumed():
                for writer, rows in reader.first["frozen"][name].items():
                    wrong = next((words for words in map(self.unlike, rows, right) if words), "")
                    self.require(
                        not wrong,
                        f"{self.name}, with parts frozen: what {writer} saved goes on otherwise under {reader.words}",
                        wrong,
                        "save and load hold all weights, and the optimizer's state of what is trained",
                    )
            for told in self.examined():
                held = {key: tensor.shape for key, tensor in _load(told, f"frozen-{name}-model").items()}
                whole = {key: t.shape for key, t in _load(self.expected(), f"frozen-{name}-model").items()}
                fact = f"{self.name} with {told.words}, parts frozen: export() holds other tensors than one process's"
                self.require_equal(held, whole, fact, "export writes all weights, frozen ones too")

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _parts(self) -> Setup:
        """Composing the parts takes a second, and many tensors are looked at."""
        return self.once("setup", lambda: self.setup)

    def _cases(self) -> list[Case]:
        found = list(work.cases(self._parts))
        if not found:
            raise NotApplicable("the suite's architecture has neither embedding nor head")
        return found

    def _first(self, case: Case, name: str, whole: torch.Tensor) -> int:
        """The number of the tensor's first row that is trained; all rows where none is."""
        role = case.architecture(self._parts).role(name)
        layers = self.once(f"layers of {case.name}", lambda: case.numbers(self._parts))
        outside = role.layer is None and not case.trainable
        if case.trainable and role.role not in case.trainable:
            return len(whole)
        if layers and (outside or (role.layer is not None and role.layer not in layers)):
            return len(whole)
        return case.rows(self._parts) if role.role in (Role.EMBEDDING, Role.HEAD) else 0

    def _keeps(self, where: str, before: torch.Tensor, after: torch.Tensor, rows: bool) -> None:
        changed = int((before.view(torch.int32) != after.view(torch.int32)).sum())
        fact = f"{where}: {changed} of its {'frozen ' if rows else ''}weights changed"
        self.require(not changed, fact, "they are not to be trained, and the optimizer decays what it is given", _HOW)

    def _moves(self, where: str, before: torch.Tensor, after: torch.Tensor) -> None:
        stays = bool(before.numel()) and torch.equal(before, after)
        self.require(not stays, f"{where} is not trained", "its weights are those of the start", _HOW)


def _read(told: Told, case: Case, when: str, file: str = "model") -> dict[str, torch.Tensor]:
    return _load(told, f"frozen-{case.name}-{when}", file)


def _load(told: Told, folder: str, file: str = "model") -> dict[str, torch.Tensor]:
    return load_file(told.folder / folder / f"{file}.safetensors")


def _distance(left: Tensors, right: Tensors) -> float:
    squares = [float((left[name] - right[name]).square().sum()) for name in left.keys() & right.keys()]
    return float(sum(squares) ** 0.5)
