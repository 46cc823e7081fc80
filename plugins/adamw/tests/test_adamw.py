"""Groups and steps, beside the update written out."""

from __future__ import annotations

import pytest
import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft_adamw.adamw import AdamW
from lmgraft_adamw.plugin import AdamWConfig
from torch import nn

ROLES = {
    "embedding": (Role.EMBEDDING, (5, 4)),
    "matrix": (Role.MLP_IN, (3, 4)),
    "norm": (Role.NORM, (4,)),
    "bias": (Role.BIAS, (4,)),
    "scale": (Role.OTHER, (4,)),
}


def parameters() -> list[tuple[str, nn.Parameter, TensorRole]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (name, nn.Parameter(torch.randn(shape, generator=generator)), TensorRole(role))
        for name, (role, shape) in ROLES.items()
    ]


def decays(config: AdamWConfig) -> dict[str, float]:
    named = parameters()
    optimizer = AdamW(config).build(named)
    return {
        name: next(
            group["weight_decay"] for group in optimizer.param_groups if any(p is parameter for p in group["params"])
        )
        for name, parameter, _ in named
    }


def test_only_matrices_decay() -> None:
    assert decays(AdamWConfig(weight_decay=0.3)) == {
        "embedding": 0.3, "matrix": 0.3, "norm": 0.0, "bias": 0.0, "scale": 0.0,
    }  # fmt: skip
    assert decays(AdamWConfig(weight_decay=0.3, decay_embeddings=False))["embedding"] == 0.0


def test_every_parameter_stands_in_one_group() -> None:
    named = parameters()
    held = [p for group in AdamW(AdamWConfig()).build(named).param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(id(parameter) for _, parameter, _ in named)
    only_norms = [entry for entry in named if entry[0] == "norm"]
    assert len(AdamW(AdamWConfig()).build(only_norms).param_groups) == 1


def test_three_steps_follow_the_formula() -> None:
    config = AdamWConfig(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.5)
    named = parameters()
    optimizer = AdamW(config).build(named)
    expected = {name: parameter.detach().clone().double() for name, parameter, _ in named}
    means = {name: torch.zeros_like(value) for name, value in expected.items()}
    squares = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 4):
        for name, parameter, _ in named:
            grad = torch.sin(torch.arange(parameter.numel()) * step).view_as(parameter)
            parameter.grad = grad.clone()
            means[name] = config.beta1 * means[name] + (1 - config.beta1) * grad
            squares[name] = config.beta2 * squares[name] + (1 - config.beta2) * grad**2
            decay = config.weight_decay if name in ("embedding", "matrix") else 0.0
            unbiased = means[name] / (1 - config.beta1**step)
            root = (squares[name] / (1 - config.beta2**step)).sqrt() + config.eps
            expected[name] = expected[name] * (1 - config.lr * decay) - config.lr * unbiased / root
        optimizer.step()
    for name, parameter, _ in named:
        assert torch.allclose(parameter.double(), expected[name], atol=1e-6), name


def test_a_learning_rate_of_its_own_leaves_the_decay_alone() -> None:
    """One step of Adam is as long as its rate: two weights of one size part by their rates, and decay alike."""
    scales = {"slow": 0.25, "fast": 4.0, "plain": 1.0}
    named = [(name, nn.Parameter(torch.ones(2, 2)), TensorRole(Role.QUERY, 0, scale)) for name, scale in scales.items()]
    named.append(("spared", nn.Parameter(torch.ones(2)), TensorRole(Role.BIAS, 0, 0.25)))
    optimizer = AdamW(AdamWConfig(lr=0.01, weight_decay=0.5)).build(named)
    assert {group["scale"]: len(group["params"]) for group in optimizer.param_groups if group["weight_decay"]} == {
        0.25: 1, 4.0: 1, 1.0: 1,
    }  # fmt: skip
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["scale"]
    for _, parameter, _ in named:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter, role in named:
        decay = 0.0 if name == "spared" else 0.01 * 0.5
        expected = torch.full_like(parameter, 1 - decay - 0.01 * role.lr_scale)
        assert torch.allclose(parameter, expected, atol=1e-6), name


def test_peak_is_the_learning_rate() -> None:
    assert AdamW(AdamWConfig(lr=0.25)).peak() == 0.25


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"lr": 0.0}, "lr"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_values_out_of_range_are_named(settings: dict[str, float], word: str) -> None:
    assert list(AdamWConfig().check()) == []
    (problem,) = AdamWConfig(**settings).check()
    assert problem.startswith(word)
