"""The suite of the door ``optimizer``: steps on a quadratic, as an engine takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Fault
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.testing.common import PartSuite

if TYPE_CHECKING:
    import torch
    from torch import nn

    Named = dict[str, nn.Parameter]

__all__ = ["OptimizerSuite"]

#: Name -> its role, and its shape. Rows and columns differ, so that a transposed state is found out.
_PARAMETERS: Mapping[str, tuple[TensorRole, tuple[int, ...]]] = {
    "model.embed_tokens.weight": (TensorRole(Role.EMBEDDING), (11, 6)),
    "model.layers.0.self_attn.q_proj.weight": (TensorRole(Role.QUERY, 0), (6, 6)),
    "model.layers.0.self_attn.q_proj.bias": (TensorRole(Role.BIAS, 0), (6,)),
    "model.layers.0.mlp.up_proj.weight": (TensorRole(Role.MLP_IN, 0), (9, 6)),
    "model.layers.1.mlp.down_proj.weight": (TensorRole(Role.MLP_OUT, 1), (6, 9)),
    "model.layers.1.conv.weight": (TensorRole(Role.OTHER, 1), (4, 2, 3)),
    "model.norm.weight": (TensorRole(Role.NORM), (6,)),
    "lm_head.weight": (TensorRole(Role.HEAD), (11, 6)),
}
#: Shares of the peak, as a schedule gives them.
_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.0, 0.6, 0.2, 0.4)
_ROUNDING = 1e-6
#: Learning rates that an initializer's rules may ask for: of two of a kind, one of them, and of a vector.
_SCALES: Mapping[str, float] = {
    "model.layers.0.self_attn.q_proj.weight": 0.25,
    "model.layers.0.mlp.up_proj.weight": 4.0,
    "model.norm.weight": 0.25,
    "lm_head.weight": 0.5,
}


class OptimizerSuite(PartSuite):
    """Holds an optimizer to the rules of :mod:`lmgraft.seams.optimizer`.

    It steps eight small parameters of all kinds towards targets: their gradient is the distance.
    """

    seam = "optimizer"

    def behaviour(self, part: Any) -> Any:
        return {name: p.detach().numpy().tobytes() for name, p in self._walk(part).items()}

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_peak(self) -> None:
        """the peak learning rate is a number above 0"""
        peak = self.build().peak()
        self.require(
            isinstance(peak, float | int) and math.isfinite(peak) and peak > 0,
            f"the peak of {self.name} is {peak!r}",
            "the schedule's factor is multiplied with it at every step",
            "return the learning rate at a factor of 1 from peak(), config.lr, and let check() refuse others",
        )

    def test_every_parameter_steps_once(self) -> None:
        """each parameter stands in one group, and its gradient moves it"""
        part, named = self.build(), _fresh()
        try:
            optimizer = _built(part, named)
        except ValueError as error:
            self.require(False, f"{self.name} cannot be built", str(error), "put every parameter into one group")
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for name, parameter in named.items():
            times = sum(parameter is one for one in held)
            self.require(
                times == 1,
                f"{self.name} holds {name} {times} times",
                f"its role is {_PARAMETERS[name][0].role.value} and its shape {tuple(parameter.shape)}",
                "put every parameter of the list into exactly one group, those of unknown roles too",
            )
        other = _fresh()
        _steps(optimizer, named, [part.peak()] * 3)
        _steps(_built(part, other), other, [part.peak()] * 3, sign=-1.0)
        still = [name for name in named if bool((other[name] == named[name]).all())]
        self.require(
            not still,
            f"{self.name} does not learn {still[0] if still else ''}",
            "it goes the same way whether its gradient points up or down",
            "step every parameter that has a gradient by that gradient, whatever its shape",
        )

    def test_moves_against_the_gradient(self) -> None:
        """on a quadratic every parameter comes nearer to its target"""
        part, named, targets = self.build(), _fresh(scale=0.01), _targets()
        before = {name: float((p.detach() - targets[name]).square().sum()) for name, p in named.items()}
        _steps(_built(part, named), named, [part.peak()] * 20)
        for name, parameter in named.items():
            after = float((parameter.detach() - targets[name]).square().sum())
            self.require(
                after < before[name],
                f"{self.name} takes {name} away from its target",
                f"the squared distance is {after:.6g} after 20 steps at the peak, {before[name]:.6g} before",
                "subtract lr times the direction; or take a smaller lr as the default",
            )

    def test_zero_rate_changes_nothing(self) -> None:
        """a learning rate of 0 leaves every weight as it is"""
        part, named = self.build(), _fresh()
        optimizer = _built(part, named)
        _steps(optimizer, named, [part.peak()] * 2)
        before = _values(named)
        _steps(optimizer, named, [0.0] * 3)
        moved = [name for name in named if bool((before[name] != named[name]).any())]
        self.require(
            not moved,
            f"{self.name} moves {moved[0] if moved else ''} at a learning rate of 0",
            "a schedule that is at 0 stops all change, weight decay included",
            "multiply everything that changes a weight with group['lr']",
        )

    def test_rate_is_read_from_the_group(self) -> None:
        """the learning rate is read from its group at every step; a group's `scale` is a number above 0"""
        part = self.build()
        for number, group in enumerate(_built(part, _fresh()).param_groups):
            scale = group.get("scale", 1.0)
            self.require(
                isinstance(scale, float | int) and math.isfinite(scale) and scale > 0,
                f"group {number} of {self.name} has the scale {scale!r}",
                "core multiplies the step's learning rate with it",
                'give a number above 0 as group["scale"], or none',
            )
            self._stopped(part, number)
        small, large = (self._distance(part, share) for share in (0.01, 1.0))
        self.require(
            small < large / 5,
            f"{self.name} does not step by the learning rate that it is given",
            f"at a hundredth of the peak weights move by {small:.3g}, at the peak by {large:.3g}",
            "read group['lr'] in step(); lr of the config is the peak and nothing else",
        )

    def test_rates_of_single_parameters(self) -> None:
        """a parameter whose role has an `lr_scale` is in a group with that number in its `scale`, and steps by it"""
        part = self.build()
        plain, scaled = (_scales(part, roles) for roles in (_roles(), _roles(_SCALES)))
        for name, number in _SCALES.items():
            told = f"{scaled[name]:g}, and without it {plain[name]:g}"
            self.require(
                math.isclose(scaled[name], number * plain[name], rel_tol=1e-9),
                f"{self.name} does not give {name} the learning rate that its role asks for",
                f"lr_scale of its role is {number:g}, and the scale of its group is {told}",
                'put parameters of different role.lr_scale into different groups, each with "scale": role.lr_scale '
                "(times a scale of your own)",
            )
        others = [name for name in plain if name not in _SCALES and plain[name] != scaled[name]]
        self.require(
            not others,
            f"{self.name} changes the learning rate of {others[0] if others else ''}, whose role asks for none",
            f"the lr_scale of {', '.join(_SCALES)} alone is another than 1",
            "let the group of each parameter depend on its own role",
        )

    def test_resumes(self) -> None:
        """state saved by name and restored, parameters in another order, continues bit for bit"""
        from lmgraft.training import optimizer_state

        part, cut = self.build(), 3
        whole = self._walk(part)
        first = _fresh()
        optimizer = _built(part, first)
        _steps(optimizer, first, self._rates(part)[:cut])
        keys = [key for state in optimizer.state.values() for key in state]
        dotted = next((key for key in keys if not isinstance(key, str) or "." in key), None)
        self.require(
            dotted is None,
            f"{self.name} keeps state under the key {dotted!r}",
            "a tensor of the state is saved as PARAMETER.KEY",
            "name state by plain words: self.state[parameter]['momentum']",
        )
        file = self.folder / "optimizer.safetensors"
        try:
            optimizer_state.save(optimizer, {p: name for name, p in first.items()}, file)
        except Fault as error:
            self.require(
                False,
                f"the state of {self.name} cannot be saved",
                str(error),
                "keep tensors and numbers in self.state[parameter], and nothing else",
            )
        second = {name: _parameter(value) for name, value in reversed(_values(first).items())}
        resumed = _built(self.build(), second)
        optimizer_state.load(resumed, {p: name for name, p in second.items()}, file)
        _steps(resumed, second, self._rates(part)[cut:])
        self._equal(
            whole,
            second,
            f"{self.name} goes another way after a resume than without one",
            "keep all that decides the next step in self.state[parameter] as tensors or numbers: counters and averages "
            "on the optimizer or in its groups are lost, for those are built anew",
            rounding=0.0,
        )

    def test_order_of_parameters_is_irrelevant(self) -> None:
        """parameters in another order step alike"""
        part = self.build()
        turned = dict(reversed(_fresh().items()))
        _steps(_built(part, turned), turned, self._rates(part))
        self._equal(
            self._walk(part),
            turned,
            f"{self.name} steps parameters by their place in the list",
            "let a parameter's own gradient, state, role and name decide",
        )

    def test_parameters_do_not_mix(self) -> None:
        """two optimizers with half of the parameters each step as one with all of them"""
        part = self.build()
        named = _fresh()
        names = list(named)
        halves = [{name: named[name] for name in names[start::2]} for start in (0, 1)]
        built = [_built(part, half) for half in halves]
        for rate in self._rates(part):
            for optimizer, half in zip(built, halves, strict=True):
                _steps(optimizer, half, [rate])
        self._equal(
            self._walk(part),
            named,
            f"in {self.name} one parameter decides how another one steps",
            "work on each tensor by itself: a layout may keep parameters on different ranks; clipping by a global norm "
            "is the engine's (`clip` of the train stage)",
        )

    def test_absent_gradients_are_passed_over(self) -> None:
        """a parameter without a gradient stays, and the others step"""
        part, named = self.build(), _fresh()
        idle = "lm_head.weight"
        before = _values(named)
        try:
            _steps(_built(part, named), named, [part.peak()] * 2, idle=idle)
        except (AttributeError, TypeError) as error:
            self.require(
                False,
                f"{self.name} breaks off at a parameter without a gradient",
                f"{type(error).__name__}: {error}",
                "if parameter.grad is None: continue",
            )
        moved = {name for name, parameter in named.items() if bool((parameter != before[name]).any())}
        self.require(
            moved == set(named) - {idle},
            f"{self.name} moves other parameters than those with a gradient",
            f"only {idle} has none; moved: {', '.join(sorted(moved))}",
            "if parameter.grad is None: continue",
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _rates(self, part: Any) -> list[float]:
        return [part.peak() * factor for factor in _FACTORS]

    def _walk(self, part: Any) -> Named:
        named = _fresh()
        _steps(_built(part, named), named, self._rates(part))
        return named

    def _distance(self, part: Any, share: float) -> float:
        named = _fresh()
        before = _values(named)
        _steps(_built(part, named), named, [part.peak() * share] * 3)
        return max(float((before[name] - p.detach()).abs().max()) for name, p in named.items())

    def _stopped(self, part: Any, number: int) -> None:
        named = _fresh()
        optimizer, before = _built(part, named), _values(named)
        _steps(optimizer, named, [part.peak()], stopped=number)
        still = optimizer.param_groups[number]["params"]
        moved = [
            name
            for name, p in named.items()
            if any(p is one for one in still) and bool((before[name] != p.detach()).any())
        ]
        self.require(
            not moved,
            f"{self.name} moves {moved[0] if moved else ''} though its group's learning rate is 0",
            "core sets group['lr'] of each group, its `scale` included, before every step",
            "read group['lr'] of the parameter's own group in step()",
        )

    def _equal(self, first: Named, second: Named, fact: str, remedy: str, rounding: float = _ROUNDING) -> None:
        for name, one in first.items():
            apart = float((one.detach() - second[name].detach()).abs().max())
            self.require(
                apart <= rounding * float(one.detach().abs().max()),
                fact,
                f"{name} differs by up to {apart:.3g} after {len(_FACTORS)} steps",
                remedy,
            )


def _parameter(values: torch.Tensor) -> nn.Parameter:
    from torch import nn

    return nn.Parameter(values.clone())


def _drawn(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, (_, shape) in _PARAMETERS.items()}


def _fresh(scale: float = 1.0) -> Named:
    return {name: _parameter(values) for name, values in _drawn(0, scale).items()}


def _targets() -> dict[str, torch.Tensor]:
    # Away from 0, so that weight decay alone does not come nearer.
    return {name: values + values.sign() for name, values in _drawn(1).items()}


def _values(named: Named) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in named.items()}


def _built(part: Any, named: Named, roles: Mapping[str, TensorRole] | None = None) -> torch.optim.Optimizer:
    given = roles or _roles()
    optimizer: torch.optim.Optimizer = part.build([(name, p, given[name]) for name, p in named.items()])
    return optimizer


def _roles(scales: Mapping[str, float] = MappingProxyType({})) -> dict[str, TensorRole]:
    return {name: replace(role, lr_scale=scales.get(name, 1.0)) for name, (role, _) in _PARAMETERS.items()}


def _scales(part: Any, roles: Mapping[str, TensorRole]) -> dict[str, float]:
    """Name -> what the group of that parameter multiplies the learning rate with."""
    named = _fresh()
    names = {id(parameter): name for name, parameter in named.items()}
    return {
        names[id(parameter)]: float(group.get("scale", 1.0))
        for group in _built(part, named, roles).param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


def _steps(
    optimizer: torch.optim.Optimizer,
    named: Named,
    rates: Sequence[float],
    *,
    idle: str = "",
    stopped: int | None = None,
    sign: float = 1.0,
) -> None:
    """What an engine does after the gradients are there; ``stopped`` is a group whose rate is 0 throughout."""
    targets = _targets()
    for rate in rates:
        for name, parameter in named.items():
            slope = sign * (1 + len(name) % 3)
            parameter.grad = None if name == idle else slope * (parameter.detach() - targets[name])
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.0 if number == stopped else rate * group.get("scale", 1.0)
        optimizer.step()
        for parameter in named.values():
            parameter.grad = None
