"""The suite of seam ``parallelism``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.registry import build
from lmgraft.testing import _parallelism_inputs as inputs
from lmgraft.testing import exam
from lmgraft.testing._parallelism_base import Told
from lmgraft.testing._parallelism_frozen import ParallelismFrozen
from lmgraft.testing._parallelism_steps import furthest
from lmgraft.testing.difference import difference
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.suite import disturb_random_numbers
from lmgraft.training import weights

__all__ = ["ParallelismSuite"]

#: Two steps of an optimizer differ by this share where they are the same but for rounding.
_ROUNDING = 0.02
_SUM = (
    "forward_backward adds up Objective.normalizers over all microbatches and data ranks first, then goes backward "
    "through the sum of terms[k] / total[k] of every microbatch, and sums (never averages) gradients and loss over "
    "data ranks"
)
_START = (
    "the weights of the start may differ: draw each canonical tensor from (seed, name), as "
    "lmgraft.training.weights does"
)
_APPLY = (
    "look at apply(lr): it scales gradients by clip / norm where the norm is larger, sets each group's rate to lr "
    "times its scale, steps an optimizer that was built with the architecture's roles and keeps its moments, and "
    "forgets the gradients"
)


class ParallelismSuite(ParallelismFrozen):
    """Holds a layout to the rules of :mod:`lmgraft.seams.parallelism`.

    Each size in ``sizes`` goes through the same steps, and is compared with a plain engine of one process that reads
    each batch at once. A size is launched twice, whatever the number of checks.
    """

    # --- learning ---------------------------------------------------------------------------------------------------

    def test_sizes_are_equal(self) -> None:
        """from equal weights, losses, gradient norms and metrics are those of one process, at every size"""
        expected = self.expected().first["steps"]
        for told in self.examined():
            self._shares(told)
            for step, (row, right) in enumerate(zip(told.first["steps"], expected, strict=True)):
                wrong = self.unlike(row, right)
                self.require(
                    not wrong,
                    f"{self.name} with {told.words} learns another model: step {step} differs from that of one process",
                    wrong if step == 0 else f"{wrong}; all before it agree, so gradients are right and steps are not",
                    f"{_SUM}; {_START}" if step == 0 else _APPLY,
                )

    def _shares(self, told: Told) -> None:
        places = sorted({tuple(said["data"]) for said in told.ranks})
        remedy = "Engine.data is (rank, size) among the ranks that read different data, size equal on all of them"
        fits = places == [(rank, len(places)) for rank in range(len(places))]
        self.require(fits, f"{self.name} with {told.words}: data is {places} on its ranks", "no partition", remedy)
        mains = sum(said["main"] for said in told.ranks)
        fact = f"{self.name} with {told.words}: main is true on {mains} of {len(told.ranks)} ranks"
        self.require(mains == 1, fact, "it writes the files", "let it be true on one rank, say rank 0")

    def test_microbatches_are_all_learnt(self) -> None:
        """a step over several uneven microbatches is the step over the whole batch: loss, norm and parameters"""
        reference = self.expected()
        parts = reference.first["parts"]
        start = load_file(reference.folder / "start" / "model.safetensors")
        right = load_file(reference.folder / "once" / "model.safetensors")
        for told in self.examined():
            wrong = self.unlike(told.first["once"], reference.first["once"])
            loss = told.first["once"]["loss"]
            near = [words for words, value in parts.items() if abs(loss - value) <= self.tolerance]
            hint = f"; it is the loss without {near[0]} of the microbatches" if wrong and near else ""
            fact = f"{self.name} with {told.words} does not learn all of its microbatches"
            self.require(not wrong, fact, f"{wrong}{hint}", f"learn every one that it is given: {_SUM}")
            left = load_file(told.folder / "once" / "model.safetensors")
            moved = sum(float((right[name] - start[name]).square().sum()) for name in right) ** 0.5
            away = sum(float((left[name] - right[name]).square().sum()) for name in right if name in left) ** 0.5
            self.require(
                left.keys() == right.keys() and away <= _ROUNDING * moved,
                f"{self.name} with {told.words}: the parameters after a step are not those of one process",
                f"they lie {away / moved:.2g} of the step apart, after equal losses and norms",
                "apply(lr) scales by clip / norm where the norm is larger, sets each group's rate to lr * scale, and "
                "steps the optimizer over all parameters",
            )

    def test_discard_changes_nothing(self) -> None:
        """discard() leaves weights and the next gradient alone"""
        for told in self.examined():
            said = told.first
            fact = f"{self.name} with {told.words}: a step differs after another one was discarded"
            remedy = "discard() sets every gradient back to nothing, those summed over ranks too, and steps nothing"
            self.require_equal(said["before"], said["after"], f"{self.name} with {told.words}: weights changed", remedy)
            wrong = self.unlike(said["again"], said["first"])
            self.require(not wrong, fact, wrong, remedy)

    # --- ranks ------------------------------------------------------------------------------------------------------

    def test_statistics_are_equal_on_every_rank(self) -> None:
        """forward_backward tells every rank the same; what is scored is the same on all of them"""
        keys = ("steps", "once", "first", "again", "parameters", "scored")
        for told in self.examined():
            for said in told.ranks[1:]:
                wrong = difference({key: told.first[key] for key in keys}, {key: said[key] for key in keys})
                self.require(
                    not wrong,
                    f"{self.name} with {told.words}: two ranks are told different things",
                    wrong,
                    "sum losses, norms and metrics over all ranks before StepStats is made: the loop decides by them",
                )

    def test_agree(self) -> None:
        """one rank's word is heard by all"""
        for told in self.examined():
            for said in told.ranks:
                self.require(
                    said["agreed"] == [True, True, False],
                    f"{self.name} with {told.words}: agree() gave {said['agreed']} on data rank {said['data'][0]}",
                    "it was asked with a flag true on the main rank, on the last data rank alone, and on none",
                    "take the maximum of the flag over all ranks, tensor and pipeline peers too",
                )

    # --- files ------------------------------------------------------------------------------------------------------

    def test_checkpoints_cross_sizes(self) -> None:
        """what one size saves another one loads, one process too, and its next steps are the same"""
        reference = self.expected()
        named = {name: list(tensor.shape) for name, tensor in _state(reference, "checkpoint").items()}
        remedy = "save gathers canonical tensors (unfused, unsharded) and the optimizer's state under their names"
        for told in self.examined():
            fact = f"{self.name} with {told.words}: its checkpoint holds other tensors than that of one process"
            held = {name: list(tensor.shape) for name, tensor in _state(told, "checkpoint").items()}
            self.require_equal(held, named, fact, remedy)
            fact = f"{self.name} with {told.words}: parameters() are not the canonical ones"
            self.require_equal(told.first["parameters"], reference.first["parameters"], fact, remedy)
        steps = reference.first["steps"]
        # Where steps differ without a checkpoint too, another check says so, and a checkpoint is not at fault.
        sound = {told.words: not any(map(self.unlike, told.first["steps"], steps)) for told in self.examined()}
        sound[reference.words] = True
        for reader in self.resumed():
            for writer, rows in reader.first["resumed"].items():
                if not (sound[reader.words] and sound[writer]):
                    continue
                wrong = next((words for words in map(self.unlike, rows, steps[exam.KEPT :]) if words), "")
                self.require(
                    not wrong,
                    f"{self.name}: what {writer} saved goes on otherwise under {reader.words}",
                    wrong,
                    f"{remedy}; load restores both, the optimizer's step count too",
                )

    def test_export_is_a_model_folder(self) -> None:
        """export writes a Hugging Face folder that holds the trained weights and answers as the engine did"""
        setup = self.setup
        architecture = build(*setup.parts["architecture"])
        for told in self.examined():
            folder, fact = told.folder / "model", f"{self.name} with {told.words}: export() wrote no model folder"
            remedy = "call lmgraft.training.weights.export with canonical tensors on the main rank"
            there = sorted(file.name for file in folder.glob("*"))
            wanted = (checkpoint.CONFIG, checkpoint.GENERATION_CONFIG)
            self.require(set(wanted) <= set(there), fact, f"it holds {', '.join(there) or 'nothing'}", remedy)
            module = weights.materialise(architecture, setup.vocab_size, "cpu").eval()
            try:
                checkpoint.verify(folder)
                weights.load_into(module, architecture, folder)
            except UserError as error:
                first = error.problems[0]
                self.require(False, f"{fact} that loads", f"{first.fact}: {first.cause}", remedy)
            end, own = _state(told, "end"), weights.canonical(module)
            changed = next((name for name in own if not torch.equal(own[name], end[name])), "")
            fact = f"{self.name} with {told.words}: {changed} is another one in export() than in save()"
            self.require(not changed, fact, "bits differ after the same step", remedy)
            wrong = furthest(_asked(module, setup), told.first["scored"], self.tolerance)
            fact = f"{self.name} with {told.words}: its model folder answers otherwise than the engine"
            self.require(not wrong, fact, wrong, "score with the weights that apply() left")

    def test_padded_vocabulary(self) -> None:
        """probabilities are over the real ids only, whatever the vocabulary is padded to inside"""
        *sizes, reference = self.resumed()
        expected = reference.first["vocabulary"]
        remedy = (
            "set padded columns of the logits to minus infinity before the softmax, and leave them out of every sum"
        )
        for told in sizes:
            found = told.first["vocabulary"]
            total = max(found["sum"], key=lambda one: abs(one - 1))
            self.require(
                abs(total - 1) <= self.tolerance,
                f"{self.name} with {told.words}: the probabilities of the {self.vocab_size} ids add up to {total:.6g}",
                "columns beyond the vocabulary have a share, or some of the ids have none",
                remedy,
            )
            for ask, right in expected.items():
                wrong = furthest([found[ask]], [right], self.tolerance)
                self.require(
                    not wrong, f"{self.name} with {told.words}: {ask} is not that of one process", wrong, remedy
                )

    # --- asking -----------------------------------------------------------------------------------------------------

    def test_handle(self) -> None:
        """started from a model folder, it scores and generates as one process does, texts beside one another too"""
        *found, expected = self.resumed()
        for told in found:
            for said in told.ranks:
                where = f"{self.name} with {told.words}"
                remedy = "lmgraft.training.handle.Handle asks any module; every rank must run the same passes"
                fact = f"{where}: handle().context is {said['context']}"
                cause = f"the architecture's is {expected.first['context']}"
                self.require(said["context"] == expected.first["context"], fact, cause, remedy)
                wrong = furthest(said["logprobs"], expected.first["logprobs"], self.tolerance)
                self.require(not wrong, f"{where}: handle().score differs from that of one process", wrong, remedy)
                for key, words in (("greedy", "score"), ("texts", "generate")):
                    fact = f"{where}: handle().{words} gives other {key} than one process"
                    self.require_equal(said[key], expected.first[key], fact, remedy)
                fact = f"{where}: texts that are written together are others than alone"
                self.require_equal(said["together"], expected.first["texts"], fact, remedy)

    # --- common checks, without launches of their own ---------------------------------------------------------------

    def test_equal_builds(self) -> None:
        """two builds from the same settings do the same bit for bit, whatever the shared random generators hold"""
        self.require_equal(
            *self._two_builds(),
            fact=f"two builds of {self.name} from the same settings behave differently",
            remedy="draw from (seed, name) alone, and make sums in one order (lmgraft.training.settings.repeatable)",
        )

    def test_no_shared_state(self) -> None:
        """one build does not see what another did"""
        self.require_equal(
            *self._two_builds(),
            fact=f"a second build of {self.name} sees what the first one did",
            remedy="keep state in the engine: nothing on the class, no process group or device setting left behind",
        )

    def test_config_unchanged_by_use(self) -> None:
        """a launch leaves the settings alone"""
        for told in self.examined():
            fact = f"{self.name} changes its own settings when it is launched"
            self.require(
                not told.changed, fact, told.changed, "copy what you change: the manifest reads the same object"
            )

    def test_no_stray_writes(self) -> None:
        """a launch writes nothing but below the folders that its work names"""
        for told in self.examined():
            fact = f"{self.name} writes {', '.join(told.stray[:3])}"
            cause = "runs share the working directory and the home, and a killed run leaves such files behind"
            self.require(not told.stray, fact, cause, "write below the folder that the method is given")

    def test_execution_settings(self) -> None:
        """settings declared `execution` change nothing that comes out"""
        raise NotApplicable("a layout's sizes differ in rounding: `sizes are equal` compares those of the suite")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _two_builds(self) -> tuple[Any, Any]:
        def one(number: int) -> Any:
            disturb_random_numbers(number)
            return self.behaviour(self.build())

        return self.once("build 1", partial(one, 1)), self.once("build 2", partial(one, 2))


def _state(told: Told, folder: str) -> dict[str, torch.Tensor]:
    path: Path = told.folder / folder / "model.safetensors"
    return load_file(path) if path.is_file() else {}


def _asked(module: torch.nn.Module, setup: exam.Setup) -> list[list[float]]:
    """As :func:`lmgraft.testing._parallelism_inputs.scored` asks an engine."""
    found: list[list[float]] = []
    rows = inputs.rows_of(setup, inputs.SCORED)[:3]
    for part in (rows[:2], rows[2:]):
        batch = inputs.batch_of(part)
        with torch.no_grad():
            out = module(
                batch.tokens,
                positions=batch.positions,
                segments=batch.segments,
                targets=batch.targets,
                asks=frozenset({"logprob"}),
            )
        found += out.logprob.tolist()
    return found
