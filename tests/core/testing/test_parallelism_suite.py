"""The suite of layouts sees what is wrong, by the right check and in words that name it."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.testing import ParallelismSuite
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
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lmgraft.seams.parallelism import StepStats
from lmgraft.training import ranks
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


class Engine(SingleEngine):
    def __init__(self, wrong, plan):
        self.wrong = wrong
        super().__init__(replace(plan, clip=None) if wrong == "never clips" else plan)
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
        return super().forward_backward(microbatches)

    def apply(self, lr):
        if self.wrong == "a rate of its own":
            lr = lr * 2
        super().apply(lr)

    def discard(self):
        if self.wrong != "keeps what is discarded":
            super().discard()

    def agree(self, flag):
        return False if self.wrong == "hears nobody" else super().agree(flag)

    def score(self, batches, asks):
        for batch, out in super().score(batches, asks):
            if self.wrong == "counts padded columns" and out.logprob is not None:
                out.logprob = out.logprob - 0.2
            yield batch, out

    def handle(self):
        if self.wrong == "a shorter context":
            return Handle(self._module, 31, self._device, self._autocast)
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

SHAKY = Distribution(
    "shaky-layout",
    {
        "shaky_layout.py": module("parallelism", component("shaky", "shaky_engine:Part", "Shaky"), before=CONFIG),
        "shaky_engine.py": ENGINE,
    },
    {"parallelism": {"shaky": "shaky_layout"}},
    requires=["lmgraft<0.2"],
)


def results(site: Any, only: str, sizes: Any = ({},), **settings: Any) -> list[Result]:
    site.install(SHAKY)
    more = {
        "component": "shaky",
        "settings": settings,
        "sizes": sizes,
        "patience": 2.0 if "hangs" in str(settings) else 300,
    }
    return list(run(type("TestShaky", (ParallelismSuite,), more), only))


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
        ("never clips", "test_sizes_are_equal", ["learns another model", "clips"]),
        ("keeps what is discarded", "test_discard_changes_nothing", ["after another one was discarded"]),
        ("hears nobody", "test_agree", ["[False, False, False]"]),
        ("counts padded columns", "test_padded_vocabulary", ["the 97 ids add up to", "minus infinity"]),
        ("names of its own", "test_checkpoints_cross_sizes", ["other tensors", "canonical"]),
        ("forgets moments", "test_checkpoints_cross_sizes", ["goes on otherwise under its settings"]),
        ("exports the start", "test_export_is_a_model_folder", ["is another one in export()"]),
        ("half a folder", "test_export_is_a_model_folder", ["config.json, model.safetensors"]),
        ("a shorter context", "test_handle", ["context"]),
    ],
)
def test_what_is_wrong_is_named(wrong: str, check: str, words: list[str], site: Any) -> None:
    (found,) = results(site, check, wrong=wrong)
    said = f"{found.fact} | {found.cause} | {found.remedy}"
    assert found.state == "failed", f"{wrong} went unseen"
    assert [word for word in words if word not in said] == [], said


@pytest.mark.slow
def test_ranks_that_tell_one_another_nothing_are_seen(site: Any) -> None:
    found = {one.check: one for one in results(site, "", sizes=({"ranks": 2},), wrong="two of them write")}
    assert "step 0" in found["test_sizes_are_equal"].fact or "main is true" in found["test_sizes_are_equal"].fact
    assert "two ranks are told different things" in found["test_statistics_are_equal_on_every_rank"].fact
    assert "[True, False, False]" in found["test_agree"].fact
