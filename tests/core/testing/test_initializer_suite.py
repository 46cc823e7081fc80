"""The suite of initializers sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import InitializerSuite, Nonconforming, NotApplicable
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

SMALL = """\
import torch
from lmgraft.seams.architecture import Role


class Part:
    def __init__(self, config):
        self.calls = 0

    def fill(self, tensor, role, shape, generator):
        self.calls += 1
        if role.role is Role.NORM:
            tensor.fill_(1.0)
        elif role.role is Role.BIAS:
            tensor.zero_()
        else:
            std = (2 / (5 * shape.hidden)) ** 0.5
            tensor.normal_(0.0, std, generator=generator)

    def lr_scale(self, role, size, shape):
        self.calls += 1
        return 16 / shape.hidden if len(size) > 1 else 1.0
"""
FILLS, DRAWS = "test_fills_everything", "test_draws_from_its_generator_only"
ORDER, STAYS = "test_order_is_irrelevant", "test_tensor_stays_what_it_is"
DRAW, STD = "tensor.normal_(0.0, std, generator=generator)", "std = (2 / (5 * shape.hidden)) ** 0.5"
ZERO = "tensor.zero_()"
RATES, SCALE = "test_learning_rates", "16 / shape.hidden if len(size) > 1 else 1.0"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    (ZERO, "pass", FILLS, r"the bias \(16,\) in block 0 of 1 unfilled"),
    (ZERO, "tensor.clamp_(-1, 1).nan_to_num_(0)", FILLS, "by what stood there before"),
    (DRAW, "tensor = torch.zeros_like(tensor).normal_(0.0, std, generator=generator)", FILLS, "unfilled"),
    (STD, "std = 0.02 / role.layer if role.layer else float('inf')", FILLS, "no number"),
    (DRAW, "tensor.normal_(0.0, std)", DRAWS, "global generator"),
    (DRAW, f"{DRAW}; torch.rand(1)", DRAWS, "global generator"),
    (DRAW, "tensor.fill_(std)", DRAWS, "for every seed"),
    (STD, "std = 1 / self.calls", ORDER, "when it comes after others"),
    (DRAW, "tensor.data = torch.zeros(tensor.shape)", STAYS, "in its own memory: False"),
    (DRAW, f"{DRAW}; tensor.requires_grad_()", STAYS, "with gradient: True"),
    (SCALE, f"{SCALE.removesuffix('1.0')}0", RATES, r"the norm \(16,\) in block 0 of 1 the learning rate 0"),
    (SCALE, SCALE.removesuffix(" else 1.0") + " else None", RATES, "the learning rate None"),
    (SCALE, "float('nan')", RATES, "the learning rate nan"),
    (SCALE, "1 / self.calls", RATES, "when it is asked again"),
    (SCALE, "role.lr_scale / 2", RATES, "role.lr_scale is what you are asked for"),
]


@contextmanager
def suite(site, source: str) -> Iterator[InitializerSuite]:
    files = {
        "wrong_start/__init__.py": "",
        "wrong_start/plugin.py": module("initializer", component("wrong_start", "wrong_start.part:Part")),
        "wrong_start/part.py": source,
    }
    parts = {"initializer": {"wrong_start": "wrong_start.plugin"}}
    site.install(Distribution("wrong-start", files, parts, requires=["lmgraft<99"]))
    found = type("TestWrong", (InitializerSuite,), {"component": "wrong_start"})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{word}: {check}" for *_, check, word in WRONG]
)
def test_a_wrong_initializer_is_seen(site, right, wrong, check, word):
    assert right in SMALL
    with suite(site, SMALL.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_a_right_initializer_passes(site):
    passed = []
    with suite(site, SMALL) as one:
        for check in checks_of(type(one)):
            one.teardown_method()
            one.setup_method()
            try:
                getattr(one, check)()
                passed.append(check)
            except NotApplicable:
                pass
    assert {FILLS, DRAWS, ORDER, STAYS, RATES, "test_equal_builds"} <= set(passed)
