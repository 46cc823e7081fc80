"""What an engine does, rule by rule: groups, a model's own losses, ``prepare``, packed rows, bfloat16."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load_file

from lmgraft.testing._parallelism_base import ParallelismBase, Told
from lmgraft.testing._parallelism_parts import SCALES, scale_of
from lmgraft.testing._parallelism_scenes import CLIP
from lmgraft.testing.outcome import NotApplicable

__all__ = ["ParallelismSteps"]

#: Two movements of weights are equal within this share.
_ROUNDING = 0.05
#: Log-probabilities in bfloat16 are further than the first and no further than the second from those in float32.
_NARROW = (1e-5, 0.1)
_FORWARD = (
    "module(batch.tokens, positions=batch.positions, segments=batch.segments, targets=batch.targets, asks=asks) is the "
    "one forward pass, in forward_backward, prepare and score"
)


class ParallelismSteps(ParallelismBase):
    """The checks of the scenes."""

    def test_groups_keep_their_scale(self) -> None:
        """apply(lr) steps each group of the optimizer by lr times its own scale; roles are the architecture's, with the
        learning rates that the initializer gives"""
        right = _movements(self.expected())
        remedy = 'apply(lr) sets group["lr"] = lr * group.get("scale", 1.0) for each group before it steps'
        for told, words in self._sizes():
            misled = [name for said in told.ranks for name in said["scaled"]["misled"]]
            self.require(
                not misled,
                f"{words}: the optimizer is given {', '.join(misled[:2])} with another role than the architecture's",
                "weight decay and groups go by roles",
                "build it from (name, parameter, architecture.role(name)), by canonical names",
            )
            unruled = {name: rates for said in told.ranks for name, rates in said["scaled"]["unruled"].items()}
            name, (given, right_rate) = next(iter(unruled.items()), ("", (1.0, 1.0)))
            self.require(
                not unruled,
                f"{words}: the optimizer is given {name} with lr_scale={given:g}",
                f"the initializer of the plan has rules for learning rates, and this one's is {right_rate:g}",
                "build it with the roles that lmgraft.training.weights.tensor_roles(plan.architecture, "
                "plan.initializer, whole shapes) gives; parts of lmgraft.training.freezing.trained have them",
            )
            moved = _movements(told)
            self.require(moved[1.0] > 0, f"{words}: a step moves no weight", "those of groups without scale", remedy)
            for scale in SCALES[1:]:
                share, expected = moved[scale] / moved[1.0], right[scale] / right[1.0]
                self.require(
                    abs(share - expected) <= _ROUNDING,
                    f"{words}: a group of scale {scale:g} does not learn at {scale:g} times the rate",
                    f"its weights go {share:.3g} times as far as those of scale 1, in one process {expected:.3g} times",
                    remedy,
                )

    def test_clipping(self) -> None:
        """apply scales a gradient whose norm is above the plan's clip to that norm"""
        for told, words in self._sizes():
            norm = told.first["clipped"]
            start, end = (load_file(told.folder / name / "model.safetensors") for name in ("clipped-start", "clipped"))
            gone = sum(float((end[name] - start[name]).square().sum()) for name in start.keys() & end.keys()) ** 0.5
            expected = min(CLIP, norm)
            self.require(
                abs(gone - expected) <= _ROUNDING * expected,
                f"{words} steps by a gradient of norm {gone:.4g}, with clip={CLIP} and a norm of {norm:.4g}",
                "plain gradient descent at the rate 1 goes as far as the gradient that it was given is long",
                "apply(lr) multiplies all gradients by clip / norm where the norm, that of the whole gradient over all "
                "ranks, is above plan.clip; and forward_backward leaves them unclipped",
            )

    def test_model_losses(self) -> None:
        """losses that the model itself brings are learnt, averaged over all microbatches"""
        reference = self.expected().first
        right, bare = reference["losses"]["stats"], reference["once"]["loss"]
        for told, words in self._watched():
            row = told.first["losses"]["stats"]
            wrong, times = self.unlike(row, right), (row["loss"] - bare) / (right["loss"] - bare)
            self.require(
                not wrong,
                f"{words} does not learn the model's own losses as the seam has it",
                f"{wrong}; in the loss they count {times:.3g} times",
                "go backward through terms[k] / total[k], plus each of Outputs.model_losses divided by the number of "
                "microbatches of all data ranks, those of padding too; StepStats.loss holds them",
            )

    def test_prepare(self) -> None:
        """what an objective's prepare gives is added up over the whole batch and reaches every loss, and metrics too"""
        remedy = (
            "where the objective has `prepare`, call it for every microbatch under torch.no_grad() before the first "
            "loss, add its values up over microbatches and data ranks, and give the sums to every loss as `shared`"
        )
        right = self.expected().first["prepared"]["stats"]
        for told, words in self._sizes():
            said = [each["prepared"] for each in told.ranks]
            called = any(each["notes"]["prepared"] for each in said)
            self.require(called, f"{words} never calls the objective's prepare", "KTO's KL comes by it", remedy)
            graph = any(each["notes"]["graph"] for each in said)
            self.require(not graph, f"{words} calls prepare with gradients", "it costs a pass, and no graph", remedy)
            figures, told_of = said[0]["stats"], sorted(right.keys() - {"loss", "grad_norm"})
            metrics = (
                "StepStats.metrics are sum / count over all microbatches and ranks; one with a count of 0 is left out"
            )
            fact = f"{words} tells of other metrics than the objective gave"
            cause = f"it tells of {', '.join(sorted(figures.keys() - {'loss', 'grad_norm'})) or 'none'}"
            self.require(
                figures.keys() == right.keys(), fact, f"{cause}; there are {', '.join(told_of)} in all", metrics
            )
            for keys, fact, hint in (
                (("loss", "grad_norm"), f"{words}: a loss that needs `prepare` is another one", remedy),
                (told_of, f"{words}: a metric is not that of the whole batch", metrics),
            ):
                wrong = self.unlike({key: figures[key] for key in keys}, {key: right[key] for key in keys})
                self.require(not wrong, fact, wrong, hint)

    def test_silence(self) -> None:
        """a batch with nothing to predict gives a zero gradient, and such a microbatch changes nothing"""
        right = self.expected().first["silent"]
        remedy = (
            "add up normalizers over all microbatches and data ranks; only then a total of 0 counts as 1: total or 1.0"
        )
        for told, words in self._sizes():
            for key, fact in (
                ("all", f"{words}: a batch with nothing to predict gives no zero gradient"),
                ("first", f"{words}: a microbatch with nothing to predict changes the step"),
            ):
                wrong = self.unlike(told.first["silent"][key], right[key])
                self.require(not wrong, fact, wrong, remedy)

    def test_packed_rows(self) -> None:
        """positions and segments reach the model: documents packed into one row do not see one another"""
        reference = self.expected().first["packed"]
        if not reference:
            raise NotApplicable("the suite's `learned` names no architecture")
        for told, words in self._sizes():
            found = told.first["packed"]
            wrong, loss = self.unlike(found["stats"], reference["stats"]), found["stats"]["loss"]
            near = [what for what, value in reference["without"].items() if abs(loss - value) <= self.tolerance]
            hint = f"; it is the loss of a model that gets no {near[0]}" if wrong and near else ""
            fact = f"{words} learns otherwise from rows that hold two documents"
            self.require(not wrong, fact, f"{wrong}{hint}", f"{_FORWARD}; packed documents are told apart by them")
            wrong = furthest(found["scored"], reference["scored"], self.tolerance)
            fact = f"{words} scores rows that hold two documents otherwise than one process"
            self.require(not wrong, fact, wrong, f"{_FORWARD}; packed documents are told apart by them")

    def test_bfloat16(self) -> None:
        """with bfloat16 passes are in bfloat16; answers, weights and the optimizer's state stay float32"""
        autocast = "run the module alone inside torch.autocast(device.type, dtype=torch.bfloat16)"
        stay = f"{autocast}, and never convert the module: weights and optimizer state are float32"
        expected = self.expected().first["before"]
        for told, words in self._sizes():
            said = told.first["half"]
            narrow = sorted({name for each in told.ranks for name in each["half"]["narrow"]})
            fact = f"{words} answers in bfloat16: {', '.join(narrow)}"
            self.require(not narrow, fact, "answers are float32 in any case", "convert them after the pass: .float()")
            wide = all(each["half"]["notes"]["wide"] for each in told.ranks)
            fact = f"{words} gives the objective answers that are not float32"
            self.require(wide, fact, "sums over a batch lose their digits in bfloat16", autocast)
            inside = any(each["half"]["notes"]["autocast"] for each in told.ranks)
            fact = f"{words} calls the objective inside autocast"
            self.require(not inside, fact, "its sums are made in float32", f"{autocast}; prepare and loss outside it")
            least, most = _NARROW
            away = max(abs(one - other) for one, other in _pairs(said["scored"], told.first["before"]))
            fact = f'{words}: precision="bfloat16" changes nothing'
            self.require(away > least, fact, f"its log-probabilities are those in float32 within {away:.1g}", autocast)
            wrong = furthest(said["scored"], expected, most)
            fact = f'{words}: precision="bfloat16" gives another model'
            self.require(not wrong, fact, f"{wrong} in float32", autocast)
            wrong = self._far(said["stats"], told.first["prepared"]["stats"])
            self.require(not wrong, f'{words}: a step with precision="bfloat16" is another one', wrong, autocast)
            for file, what in (("model", "weights"), ("optimizer", "optimizer state")):
                held = _narrow_file(told, file)
                fact = f'{words}: the {what} are bfloat16 under precision="bfloat16"'
                self.require(not held, fact, held, stay)

    def test_scoring_is_forward_only(self) -> None:
        """score and the handle run in eval() mode without gradients; forward_backward, prepare too, in train() mode"""
        for told, words in self._sizes():
            graph = sorted({name for each in told.ranks for name in each["unsound"]["graph"]})
            self.require(
                not graph,
                f"{words} scores with gradients",
                f"{', '.join(graph)} require grad, so every batch's activations are kept",
                "run score() under torch.inference_mode() or torch.no_grad()",
            )
            for where, mode in (("forward_backward", "training"), ("score", "evaluating"), ("handle", "evaluating")):
                modes = {one for each in told.ranks for one in each["losses"]["modes"][where]}
                if where == "forward_backward":
                    modes |= {one for each in told.ranks for one in each["prepared"]["modes"]}
                self.require(
                    modes <= {mode},
                    f"{words}: the module is in another mode in {where}",
                    f"it is {' and '.join(sorted(modes))}, and belongs {mode}; dropout goes by it",
                    "call module.train() in forward_backward and module.eval() in score and the handle: the loop calls "
                    "them by turns",
                )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _sizes(self) -> Iterator[tuple[Told, str]]:
        for told in self.examined():
            yield told, f"{self.name} with {told.words}"

    def _watched(self) -> Iterator[tuple[Told, str]]:
        """The sizes that run the module of architecture.build; one that builds its own gets no losses of it."""
        found = [
            (told, words)
            for told, words in self._sizes()
            if any(modes for each in told.ranks for modes in each["losses"]["modes"].values())
        ]
        if not found:
            raise NotApplicable("it runs layers of its own, built from the decoder's spec, which bring no losses")
        yield from found

    def _far(self, row: Mapping[str, float], right: Mapping[str, float]) -> str:
        """The first of two figures that bfloat16 does not account for."""
        for name in ("loss", "grad_norm"):
            if not abs(row[name] - right[name]) <= _NARROW[1] * abs(right[name]):
                return f"{name.replace('_', ' ')} is {row[name]:.6g}, and {right[name]:.6g} in float32"
        return ""


def furthest(found: Any, expected: Any, tolerance: float) -> str:
    """The first number of two lists of lists that is further away."""
    for number, (left, right) in enumerate(zip(found, expected, strict=True)):
        if len(left) != len(right):
            return f"row {number} has {len(left)} answers, expected {len(right)}"
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            if not abs(one - other) <= tolerance * max(1.0, abs(other)):
                return f"row {number}, answer {place}: {one:.6g}, expected {other:.6g}"
    return ""


def _pairs(found: Any, expected: Any) -> Iterator[tuple[float, float]]:
    for left, right in zip(found, expected, strict=True):
        yield from zip(left, right, strict=True)


def _movements(told: Told) -> dict[float, float]:
    """Scale of a group -> how far its weights go in one step."""
    start, end = (load_file(told.folder / name / "model.safetensors") for name in ("scaled-start", "scaled"))
    found = dict.fromkeys(SCALES, 0.0)
    for name in start.keys() & end.keys():
        found[scale_of(name)] += float((end[name] - start[name]).square().sum())
    return {scale: total**0.5 for scale, total in found.items()}


def _narrow_file(told: Told, name: str) -> str:
    """Why what was saved after a step in bfloat16 is no float32; empty where it is."""
    path = told.folder / "half" / f"{name}.safetensors"
    held = {key: one for key, one in load_file(path).items() if one.dim() and one.is_floating_point()}
    kinds = sorted({str(one.dtype) for one in held.values()} - {"torch.float32", "torch.float64"})
    if kinds:
        return f"they are saved in {', '.join(kinds)}"
    numbers = torch.cat([one.flatten() for one in held.values()]) if held else torch.zeros(0)
    numbers = numbers[numbers != 0]
    if len(numbers) and bool((numbers == numbers.bfloat16()).float().mean() > 0.99):
        return "every number of them, saved as float32, is one that bfloat16 has too"
    return ""
