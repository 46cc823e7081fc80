"""The suite of layouts sees what is wrong, by the right check and in words that name it."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.testing import ParallelismSuite, _parallelism_base
from lmgraft.testing.running import Result, run
from third_party import Distribution, component, module

CONFIG = '''
@dataclass
class Shaky(Config):
    threads: int = execution(1)
    """Of a tensor operation."""
    ranks: int = execution(1)
    """Processes."""
    wrong: str = ""
    """What is wrong with it."""
'''

#: The plain engine, of which ``wrong`` breaks one thing.
ENGINE = """
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.training import freezing, ranks
from lmgraft.generation.decoding import TextBatch
from lmgraft.training.handle import Handle
from lmgraft.training.settings import repeatable
from lmgraft_data_parallel.engine import SingleEngine
from safetensors.torch import load_file, save_file
from torch import distributed


class Part:
    def __init__(self, config):
        self.config = config

    def launch(self, work):
        config = self.config
        if config.wrong == "runs nothing":
            return
        if config.wrong == "hangs":
            time.sleep(60)
        if config.wrong == "leaves a file":
            Path("ranks.txt").write_text("1")
        if config.wrong == "changes its settings":
            config.threads = 7
        make = partial(Engine, config.wrong)
        if config.ranks > 1:
            ranks.launch(partial(work, make), ranks=config.ranks, device="cpu", threads=1)
        else:
            with repeatable(config.threads):
                work(make)


def changed(plan, wrong):
    if wrong == "never clips":
        return replace(plan, clip=None)
    if plan.objective is not None and wrong in ("0 counts as 1 too early", "0 counts as 0"):
        return replace(plan, objective=Totals(plan.objective, wrong))
    if wrong == "rules of nobody":
        return replace(plan, initializer=Fill(plan.initializer))
    if wrong == "sizes of a shard":
        return replace(plan, initializer=Half(plan.initializer))
    if plan.optimizer is not None and wrong == "roles of its own":
        return replace(plan, optimizer=Roles(plan.optimizer))
    if wrong in ("trains everything", "puts frozen weights back"):
        return replace(plan, trainable=frozenset(), frozen_rows=0, trainable_layers=frozenset())
    if wrong == "trains all layers":
        return replace(plan, trainable_layers=frozenset())
    if wrong == "numbers layers by stage" and plan.trainable_layers:
        return replace(plan, trainable_layers=frozenset({0}))
    if wrong == "nothing outside of layers" and plan.trainable_layers:
        return replace(plan, trainable=plan.trainable - {Role.HEAD})
    if wrong == "forgets the rows":
        return replace(plan, frozen_rows=0)
    if wrong == "leaves the head out" and Role.EMBEDDING in plan.trainable:
        return replace(plan, trainable=frozenset({Role.EMBEDDING}))
    return plan


def add(parts):
    found = {}
    for part in parts:
        found = {name: found.get(name, 0) + one for name, one in part.items()}
    return found


class Totals:
    def __init__(self, inner, wrong):
        self.inner, self.zero = inner, 1.0 if wrong == "0 counts as 1 too early" else float("nan")

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def normalizers(self, batch):
        return {name: one or self.zero for name, one in self.inner.normalizers(batch).items()}


class Fill:
    def __init__(self, inner):
        self.fill, self.inner = inner.fill, inner


class First(TextBatch):
    def step(self):
        told = super().step()
        return [(number, told[0][1], last) for number, _, last in told]


class OneText(Handle):
    def decoding(self):
        return First(self._next, self.context)


class Half(Fill):
    def lr_scale(self, role, size, shape):
        given = getattr(self.inner, "lr_scale", lambda *_: 1.0)
        return given(role, (size[0] // 2, *size[1:]), shape)


class Roles:
    def __init__(self, inner):
        self.inner = inner

    def build(self, parameters):
        return self.inner.build([(name, one, TensorRole(Role.OTHER)) for name, one, _ in parameters])


class Engine(SingleEngine):
    def __init__(self, wrong, plan):
        self.wrong = wrong
        super().__init__(changed(plan, wrong))
        if wrong == "bfloat16 weights" and plan.precision == "bfloat16":
            with torch.no_grad():
                for parameter in self._module.parameters():
                    parameter.copy_(parameter.bfloat16())
        shapes = {name: one.shape for name, one in self._module.named_parameters()}
        self.firsts = {name: shape[0] for name, shape in shapes.items()} | freezing.first_rows(plan, shapes)
        self.start = {name: one.detach().clone() for name, one in self._module.named_parameters()}
        if wrong == "draws from everybody's generator" and plan.weights is None:
            with torch.no_grad():
                for parameter in self._module.parameters():
                    parameter += 0.01 * torch.randn(parameter.shape)

    @property
    def data(self):
        return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)

    @property
    def main(self):
        return self.data[0] == 0 or self.wrong == "two of them write"

    def forward_backward(self, microbatches):
        if self.wrong == "raises":
            raise ZeroDivisionError("of the engine")
        if self.wrong == "a mean of means":
            found = [super(Engine, self).forward_backward([batch]) for batch in microbatches]
            return replace(found[-1], loss=sum(one.loss for one in found) / len(found))
        if self.wrong == "autocast around everything":
            with self._autocast():
                return super().forward_backward(microbatches)
        stats = super().forward_backward(microbatches)
        if self.wrong == "metrics of nothing":
            return replace(stats, metrics={**stats.metrics, "kit_nothing": 0.0})
        if self.wrong == "sums of metrics":
            return replace(stats, metrics={name: 2 * one for name, one in stats.metrics.items()})
        return stats

    def apply(self, lr):
        if self.wrong == "a rate of its own":
            lr = lr * 2
        if self.wrong == "clips by another norm":
            self._norm = self._norm / 2
        if self.wrong == "one rate for all":
            for group in self._optimizer.param_groups:
                group.pop("scale", None)
        if self.wrong == "forgets nothing":
            self.discard, kept = lambda: None, self.discard
            super().apply(lr)
            self.discard = kept
            return
        if self.wrong == "puts frozen weights back":
            kept = {name: one.detach().clone() for name, one in self._module.named_parameters()}
            super().apply(lr)
            with torch.no_grad():
                for name, one in self._module.named_parameters():
                    one[: self.firsts[name]] = kept[name][: self.firsts[name]]
            return
        super().apply(lr)
        if self.wrong == "bfloat16 weights" and self._plan.precision == "bfloat16":
            with torch.no_grad():
                for parameter in self._module.parameters():
                    parameter.copy_(parameter.bfloat16())

    def _run(self, batch, asks):
        wrong = self.wrong
        if wrong in ("no segments", "nothing but tokens"):
            batch = replace(batch, segments=None)
        if wrong in ("no positions", "nothing but tokens"):
            batch = replace(batch, positions=None)
        if wrong == "never in eval":
            self._module.train()
        if wrong == "never in train":
            self._module.eval()
        out = super()._run(batch, asks)
        if wrong == "no losses of the model":
            out.model_losses = {}
        if wrong == "adds up losses of the model":
            out.model_losses = {name: 4 * one for name, one in out.model_losses.items()}
        if wrong == "answers in bfloat16" and self._plan.precision == "bfloat16":
            out.logprob = out.logprob.bfloat16()
        return out

    def _prepare(self, objective, batches):
        if self.wrong == "prepares nothing":
            return {}
        if self.wrong == "prepares the first":
            return super()._prepare(objective, batches[:1])
        if self.wrong == "prepares with gradients" and hasattr(objective, "prepare"):
            return add(objective.prepare(self._run(batch, objective.asks), batch) for batch in batches)
        return super()._prepare(objective, batches)

    def _autocast(self):
        return nullcontext() if self.wrong == "never bfloat16" else super()._autocast()

    def discard(self):
        if self.wrong != "keeps what is discarded":
            super().discard()

    def agree(self, flag):
        return False if self.wrong == "hears nobody" else super().agree(flag)

    def score(self, batches, asks):
        if self.wrong == "scores with gradients":
            self._module.eval()
            for batch in batches:
                with self._autocast():
                    out = self._run(batch, asks)
                yield batch, out
            return
        for batch, out in super().score(batches, asks):
            if self.wrong == "counts padded columns" and out.logprob is not None:
                out.logprob = out.logprob - 0.2
            yield batch, out

    def handle(self):
        if self.wrong == "a shorter context":
            return Handle(self._module, 31, self._device, self._autocast)
        if self.wrong == "one text for all":
            return OneText(self._module, super().handle().context, self._device, self._autocast)
        return super().handle()

    def save(self, folder):
        super().save(folder)
        if self.wrong == "names of its own" and self.main:
            state = load_file(folder / "model.safetensors")
            save_file({f"module.{name}": one for name, one in state.items()}, folder / "model.safetensors")

    def load(self, folder):
        if self.wrong == "names of its own":
            return
        optimizer, self._optimizer = self._optimizer, None if self.wrong == "forgets moments" else self._optimizer
        super().load(folder)
        self._optimizer = optimizer

    def export(self, folder):
        if self.wrong == "exports the start":
            with torch.no_grad():
                for name, one in self._module.named_parameters():
                    one.copy_(self.start[name])
        super().export(folder)
        if self.wrong == "half a folder":
            (folder / "generation_config.json").unlink()
"""


def shaky(**more: Any) -> Distribution:
    part = component("shaky", "shaky_engine:Part", "Shaky", **more)
    return Distribution(
        "shaky-layout",
        {"shaky_layout.py": module("parallelism", part, before=CONFIG), "shaky_engine.py": ENGINE},
        {"parallelism": {"shaky": "shaky_layout"}},
        requires=["lmgraft<0.2"],
    )


SHAKY = shaky(api=2)


REFERENCE = "of the reference"
expected: dict[str, Any] = {}


def results(site: Any, only: str, sizes: Any = ({},), layout: Distribution = SHAKY, **settings: Any) -> list[Result]:
    site.install(layout)
    more = {
        "component": "shaky",
        "settings": settings,
        "sizes": sizes,
        "patience": 2.0 if "hangs" in str(settings) else 300,
    }
    kind = type("TestShaky", (ParallelismSuite,), more)
    _parallelism_base._kept[kind] = dict(expected)  # one launch of the reference for all of them
    found = list(run(kind, only))
    expected.update({key: said for key, said in _parallelism_base._kept[kind].items() if key.endswith(REFERENCE)})
    return found


def test_a_sound_one_passes_everything(site: Any) -> None:
    found = results(site, "")
    assert [one for one in found if one.state == "failed"] == []
    assert {one.check for one in found if one.state == "skipped"} == {"test_execution_settings"}


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [
        ("runs nothing", "test_agree", ["its work had not run", "work(make_engine)"]),
        ("hangs", "test_agree", ["has not ended after 2 s", "collective"]),
        ("raises", "test_agree", ["ZeroDivisionError", "of the engine", "shaky_engine.py"]),
        ("leaves a file", "test_no_stray_writes", ["writes ranks.txt"]),
        ("changes its settings", "test_config_unchanged_by_use", ["threads: 1 and 7"]),
        ("draws from everybody's generator", "test_equal_builds", ["behave differently", "(seed, name)"]),
        ("draws from everybody's generator", "test_sizes_are_equal", ["step 0", "(seed, name)"]),
        ("a mean of means", "test_microbatches_are_all_learnt", ["does not learn all", "normalizers"]),
        ("a rate of its own", "test_microbatches_are_all_learnt", ["the parameters after a step", "lr * scale"]),
        ("never clips", "test_sizes_are_equal", ["step 2", "look at apply(lr)", "clip / norm"]),
        ("never clips", "test_clipping", ["clip=0.05", "by clip / norm"]),
        ("clips by another norm", "test_clipping", ["clip=0.05"]),
        ("forgets nothing", "test_sizes_are_equal", ["step 1", "look at apply(lr)", "forgets the gradients"]),
        ("keeps what is discarded", "test_discard_changes_nothing", ["after another one was discarded"]),
        ("hears nobody", "test_agree", ["[False, False, False]"]),
        ("counts padded columns", "test_padded_vocabulary", ["the 97 ids add up to", "minus infinity"]),
        ("names of its own", "test_checkpoints_cross_sizes", ["other tensors", "canonical"]),
        ("forgets moments", "test_checkpoints_cross_sizes", ["goes on otherwise under its settings"]),
        ("exports the start", "test_export_is_a_model_folder", ["is another one in export()"]),
        ("half a folder", "test_export_is_a_model_folder", ["config.json, model.safetensors"]),
        ("a shorter context", "test_handle", ["context"]),
        ("one text for all", "test_handle", ["written together are others than alone"]),
        ("one rate for all", "test_groups_keep_their_scale", ["a group of scale 0.5", "in one process", "lr * group"]),
        ("roles of its own", "test_groups_keep_their_scale", ["another role", "architecture.role(name)"]),
        ("rules of nobody", "test_groups_keep_their_scale", ["with lr_scale=1", "tensor_roles(plan.architecture"]),
        ("sizes of a shard", "test_groups_keep_their_scale", ["embed_tokens.weight with lr_scale", "whole shapes"]),
        ("no losses of the model", "test_model_losses", ["count 0 times", "Outputs.model_losses"]),
        ("adds up losses of the model", "test_model_losses", ["count 4 times", "number of microbatches"]),
        ("prepares nothing", "test_prepare", ["never calls the objective's prepare", "torch.no_grad()"]),
        ("prepares the first", "test_prepare", ["needs `prepare` is another one", "add its values up"]),
        ("prepares with gradients", "test_prepare", ["prepare with gradients"]),
        ("metrics of nothing", "test_prepare", ["other metrics", "kit_nothing", "count of 0"]),
        ("sums of metrics", "test_prepare", ["not that of the whole batch", "sum / count"]),
        ("0 counts as 0", "test_silence", ["no zero gradient", "loss is nan", "total or 1.0"]),
        ("0 counts as 1 too early", "test_silence", ["microbatch with nothing to predict changes", "only then"]),
        ("no segments", "test_packed_rows", ["two documents", "gets no segments", "segments=batch.segments"]),
        ("no positions", "test_packed_rows", ["two documents", "gets no positions"]),
        ("nothing but tokens", "test_packed_rows", ["gets no positions and segments"]),
        ("never bfloat16", "test_bfloat16", ["changes nothing", "torch.autocast"]),
        ("bfloat16 weights", "test_bfloat16", ["the weights are bfloat16", "never convert the module"]),
        ("answers in bfloat16", "test_bfloat16", ["answers in bfloat16: logprob"]),
        ("autocast around everything", "test_bfloat16", ["the objective inside autocast"]),
        ("scores with gradients", "test_scoring_is_forward_only", ["logprob", "require grad", "no_grad"]),
        (
            "trains everything",
            "test_frozen_weights_keep",
            ["trainable=", "weights changed", "lmgraft.training.freezing"],
        ),
        ("forgets the rows", "test_frozen_weights_keep", ["60% of the rows frozen", "of its frozen weights changed"]),
        ("leaves the head out", "test_frozen_weights_keep", ["lm_head.weight is not trained"]),
        ("trains all layers", "test_frozen_weights_keep", ["trainable_layers=the last", "weights changed"]),
        ("numbers layers by stage", "test_frozen_weights_keep", ["layers=the last", "layers.0.", "weights changed"]),
        ("nothing outside of layers", "test_frozen_weights_keep", ["layers=0", "lm_head.weight is not trained"]),
        ("puts frozen weights back", "test_frozen_weights_have_no_state", ["exp_avg of 97 rows", "39 of its 97 rows"]),
        ("puts frozen weights back", "test_frozen_weights_are_not_in_the_norm", ["clip=0.02", "what is trained alone"]),
        ("trains everything", "test_frozen_steps_are_equal", ["differs from that of one process"]),
        ("forgets moments", "test_frozen_checkpoints_cross_sizes", ["with parts frozen", "goes on otherwise"]),
        ("never in eval", "test_scoring_is_forward_only", ["in score", "training", "module.eval()"]),
        ("never in train", "test_scoring_is_forward_only", ["in forward_backward", "evaluating", "module.train()"]),
    ],
)
def test_what_is_wrong_is_named(wrong: str, check: str, words: list[str], site: Any) -> None:
    (found,) = results(site, check, wrong=wrong)
    said = f"{found.fact} | {found.cause} | {found.remedy}"
    assert found.state == "failed", f"{wrong} went unseen"
    assert [word for word in words if word not in said] == [], said


def test_a_layout_of_before_layers_is_not_asked_for_them(site: Any) -> None:
    """A stage that names some refuses it."""
    (found,) = results(site, "test_frozen_weights_keep", layout=shaky(), wrong="trains all layers")
    assert found.state == "passed"


def test_a_missing_clip_is_no_matter_of_vocabularies_and_checkpoints(site: Any) -> None:
    failed = {one.check for one in results(site, "", wrong="never clips") if one.state == "failed"}
    assert failed == {"test_clipping", "test_sizes_are_equal", "test_frozen_weights_are_not_in_the_norm"}


def test_what_does_not_fit_a_layout_is_left_out(site: Any) -> None:
    site.install(SHAKY)
    kind = type("TestShaky", (ParallelismSuite,), {"component": "shaky", "sizes": ({},), "learned": ""})
    (found,) = run(kind, "test_packed_rows")
    assert (found.state, "`learned`" in found.reason) == ("skipped", True)


@pytest.mark.slow
def test_ranks_that_tell_one_another_nothing_are_seen(site: Any) -> None:
    found = {one.check: one for one in results(site, "", sizes=({"ranks": 2},), wrong="two of them write")}
    assert "step 0" in found["test_sizes_are_equal"].fact or "main is true" in found["test_sizes_are_equal"].fact
    assert "two ranks are told different things" in found["test_statistics_are_equal_on_every_rank"].fact
    assert "[True, False, False]" in found["test_agree"].fact
