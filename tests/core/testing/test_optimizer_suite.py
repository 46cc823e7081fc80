"""The suite of optimizers sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import Nonconforming, NotApplicable, OptimizerSuite
from lmgraft.testing.running import checks_of
from third_party import Distribution, component, module

MOMENTUM = """\
import torch
from lmgraft.seams.architecture import Role


class Momentum(torch.optim.Optimizer):
    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.0, "decay": 0.1})
        self.count = 0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["steps"] = 0
                state["steps"] += 1
                state["mean"].lerp_(gradient, 0.1)
                mean = state["mean"] / (1 - 0.9 ** state["steps"])
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.sub_(group["lr"] * mean)


class Part:
    def __init__(self, config):
        pass

    def peak(self):
        return 0.01

    def build(self, parameters):
        groups = {}
        for _, parameter, role in parameters:
            own = 0.5 if role.role is Role.HEAD else 1.0
            groups.setdefault((own, role.lr_scale), []).append(parameter)
        return Momentum([{"params": held, "scale": own * asked} for (own, asked), held in groups.items()])
"""
STEPS, RATE, RESUMES = "test_every_parameter_steps_once", "test_rate_is_read_from_the_group", "test_resumes"
ZERO, MIX, ORDER = (
    "test_zero_rate_changes_nothing",
    "test_parameters_do_not_mix",
    "test_order_of_parameters_is_irrelevant",
)
ABSENT = "test_absent_gradients_are_passed_over"
SINGLE = "test_rates_of_single_parameters"
APPEND = ".append(parameter)"
GRADIENT, DECAY = "gradient = parameter.grad\n", 'mul_(1 - group["lr"] * group["decay"])'
COUNT, MEAN = 'state["steps"] += 1', 'state["steps"] = 0'
SKIP = "if parameter.grad is None:\n                    continue\n                "
COUNTED = 'self.count += 1; state["steps"] = 1 + self.count // 8'
NORM = 'sum(one.grad.norm() for one in group["params"])'
SUB = 'parameter.sub_(group["lr"] * mean)'

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("return 0.01", "return 0.0", "test_peak", "is 0.0"),
    (APPEND, f"{APPEND} if role.role in (Role.QUERY, Role.MLP_IN) else None", STEPS, "embed_tokens.weight 0 times"),
    (APPEND, f"{APPEND}; groups.setdefault((2.0, 1.0), []).append(parameter)", STEPS, "more than one parameter group"),
    (SUB, f"if parameter.dim() < 3: {SUB}", STEPS, "does not learn model.layers.1.conv"),
    (SUB, SUB.replace("sub_", "add_"), "test_moves_against_the_gradient", "away from its target"),
    (DECAY, "mul_(0.999)", ZERO, "at a learning rate of 0"),
    (SUB, SUB.replace('group["lr"]', "0.01"), ZERO, "multiply everything"),
    (SUB, SUB.replace('group["lr"]', "0.01"), RATE, "though its group's learning rate is 0"),
    (SUB, SUB.replace('group["lr"]', '(group["lr"] > 0) * 0.01'), RATE, "at a hundredth of the peak"),
    (SUB, SUB.replace('group["lr"]', 'self.param_groups[0]["lr"]'), RATE, "its group's learning rate"),
    ("own = 0.5", "own = -1", RATE, "scale -1"),
    ("own * asked", "own", SINGLE, "is 0.25, and the scale of its group is 1, and without it 1"),
    ("own * asked", "own * min(asked, 1.0)", SINGLE, "up_proj.weight the learning rate"),
    ("role.lr_scale), []", "parameters[0][2].lr_scale), []", SINGLE, "does not give"),
    ("own * asked", "own * asked / max(role.lr_scale for *_, role in parameters)", SINGLE, "does not give"),
    (COUNT, COUNTED, RESUMES, "built anew"),
    (MEAN, f'{MEAN}\n                    state["plan"] = [1, 2]', RESUMES, "cannot be saved"),
    (MEAN, f'{MEAN}\n                    state["a.b"] = 1.0', RESUMES, "a.b"),
    (GRADIENT, "gradient = parameter.grad * (1 + number)\n", ORDER, "by their place"),
    (GRADIENT, f"gradient = parameter.grad / {NORM}\n", MIX, "how another one steps"),
    (SKIP, "", ABSENT, "breaks off"),
    (SKIP, SKIP.replace("continue", "parameter.add_(1.0); continue"), ABSENT, "other parameters than those"),
]


@contextmanager
def suite(site, source: str) -> Iterator[OptimizerSuite]:
    files = {
        "wrong_optimizer/__init__.py": "",
        "wrong_optimizer/plugin.py": module("optimizer", component("wrong_optimizer", "wrong_optimizer.part:Part")),
        "wrong_optimizer/part.py": source,
    }
    parts = {"optimizer": {"wrong_optimizer": "wrong_optimizer.plugin"}}
    site.install(Distribution("wrong-optimizer", files, parts, requires=["lmgraft<99"]))
    found = type("TestWrong", (OptimizerSuite,), {"component": "wrong_optimizer"})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{word}: {check}" for *_, check, word in WRONG]
)
def test_a_wrong_optimizer_is_seen(site, right, wrong, check, word):
    assert right in MOMENTUM
    with suite(site, MOMENTUM.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_a_right_optimizer_passes(site):
    passed = []
    with suite(site, MOMENTUM) as one:
        for check in checks_of(type(one)):
            one.teardown_method()
            one.setup_method()
            try:
                getattr(one, check)()
                passed.append(check)
            except NotApplicable:
                pass
    assert {check for *_, check, _ in WRONG} <= set(passed)


@pytest.mark.parametrize("kind", ["SGD", "Adagrad", "RMSprop", "Adam", "Adamax", "NAdam", "RAdam", "Adafactor"])
def test_torch_s_own_optimizers_pass(site, kind):
    begin = MOMENTUM.index("        return Momentum")
    groups = "[{'params': held, 'scale': scale} for (_, scale), held in groups.items()]"
    source = MOMENTUM[:begin] + f"        return torch.optim.{kind}({groups})\n"
    with suite(site, source) as one:
        for check in (STEPS, RATE, SINGLE, RESUMES, ZERO, ORDER, ABSENT, "test_moves_against_the_gradient"):
            getattr(one, check)()
