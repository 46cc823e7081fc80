"""The suite of adapters sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import AdapterSuite, Nonconforming, NotApplicable
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

RIGHT = """\
from functools import partial

import torch
from lmgraft.seams.architecture import Role
from lmgraft.training.adapting import AdaptedArchitecture, Made
from torch import nn


class Part:
    def __init__(self, config):
        self.config = config

    def adapt(self, architecture):
        return Adapted(architecture)


class Adapted(AdaptedArchitecture):
    def targets(self, module):
        parts = module.named_modules()
        return {
            name: part
            for name, part in parts
            if isinstance(part, nn.Linear) and self.inner.role(f"{name}.weight").role is Role.MLP_OUT
        }

    def put(self, module, device):
        for part in self.targets(module).values():
            part.register_parameter("gain", nn.Parameter(torch.empty(part.out_features, device=device)))
            part.register_forward_hook(rescale)

    def adds(self, name):
        return name.replace("gain", "weight") if name.endswith(".gain") else None

    def fill_new(self, name, tensor, generator):
        tensor.zero_()

    def fold(self, tensors):
        return Made({name: partial(self.folded, tensors, name) for name in tensors if self.adds(name) is None})

    def folded(self, tensors, name):
        gain = name.rpartition(".")[0] + ".gain"
        return tensors[name] * (1 + tensors[gain])[:, None] if gain in tensors else tensors[name]


def rescale(part, given, out):
    return out * (1 + part.gain)
"""
GIVES, START, FILLS = (
    "test_gives_an_architecture",
    "test_untrained_it_changes_nothing",
    "test_fills_everything_from_its_generator",
)
ONLY, CHECKPOINT = "test_only_the_adapter_is_trained", "test_a_checkpoint_holds_it_all"
GOES_ON = "test_interrupted_it_goes_on_alike"
FOLDS, GENERATES = "test_folded_it_answers_alike", "test_generation_sees_it"
DROPS = "    return out * (1 + part.gain * (torch.rand(out.shape, generator=dice) < 0.5 if part.training else 1))"
ACTS, ZERO, INIT = "return out * (1 + part.gain)", "tensor.zero_()", "    def adds(self, name):\n"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("return Adapted(architecture)", "return architecture", GIVES, "lacks fill_new"),
    ("device=device)", 'device="cpu")', GIVES, "is allocated by build"),
    ('if name.endswith(".gain") else None', "if False else None", GIVES, "nothing that is trained"),
    (INIT, f"    def spec(self):\n        return self.inner.spec()\n\n{INIT}", GIVES, "has a spec"),
    (INIT, f"    def context(self):\n        return 8\n\n{INIT}", GIVES, "context is not that"),
    (ZERO, "tensor.fill_(0.5)", START, "before it is trained"),
    (ACTS, "return out * part.gain", START, "before it is trained"),
    (ZERO, "pass", FILLS, "unfilled"),
    (ZERO, "tensor.nan_to_num_(0)", FILLS, "by what stood there"),
    (ZERO, "tensor.normal_(0, 1e-9)", FILLS, "others' random numbers"),
    (ACTS, "return out * (1 + part.gain.detach()) + 0 * part.gain.sum().detach()", ONLY, "no gradient reaches it"),
    (ACTS, f"part.weight.data.mul_(1.5); {ACTS}", ONLY, "is frozen and changes"),
    (
        "def rescale(part, given, out):\n    return out * (1 + part.gain)",
        "dice = torch.Generator()\n\n\ndef rescale(part, given, out):\n" + DROPS,
        GOES_ON,
        "is another after a kill",
    ),
    ("(1 + tensors[gain])", "(1 + 2 * tensors[gain])", FOLDS, "answers otherwise than what was trained"),
    ("if self.adds(name) is None}", "}", FOLDS, "no plain model"),
    (
        INIT,
        "    def build(self, vocab_size, device='meta'):\n"
        "        module = super().build(vocab_size, device)\n"
        "        plain = self.inner.build(vocab_size, 'cpu')\n"
        "        module.generation = lambda: plain.load_state_dict(module.state_dict(), strict=False) and plain\n"
        f"        return module\n\n{INIT}",
        GENERATES,
        "leaves the adapter out",
    ),
]


@contextmanager
def suite(site, source: str) -> Iterator[AdapterSuite]:
    files = {
        "wrong_adapter/__init__.py": "",
        "wrong_adapter/plugin.py": module("adapter", component("wrong_adapter", "wrong_adapter.part:Part")),
        "wrong_adapter/part.py": source,
    }
    parts = {"adapter": {"wrong_adapter": "wrong_adapter.plugin"}}
    site.install(Distribution("wrong-adapter", files, parts, requires=["lmgraft<99"]))
    found = type("TestWrong", (AdapterSuite,), {"component": "wrong_adapter"})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{word}: {check}" for *_, check, word in WRONG]
)
def test_a_wrong_adapter_is_seen(site, right, wrong, check, word):
    assert RIGHT.count(right) == 1
    with suite(site, RIGHT.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_what_is_kept_outside_the_tensors_is_missed_in_the_checkpoint(site):
    hidden = "part.moved = getattr(part, 'moved', 0) + part.training; return out * (1 + part.gain) + part.moved"
    with suite(site, RIGHT.replace(ACTS, hidden)) as one, pytest.raises(Nonconforming, match="once its checkpoint"):
        getattr(one, CHECKPOINT)()


def test_a_right_adapter_passes(site):
    passed = []
    with suite(site, RIGHT) as one:
        for check in checks_of(type(one)):
            one.teardown_method()
            one.setup_method()
            try:
                getattr(one, check)()
                passed.append(check)
            except NotApplicable:
                pass
    assert {GIVES, START, FILLS, ONLY, CHECKPOINT, GOES_ON, FOLDS, GENERATES, "test_equal_builds"} <= set(passed)
