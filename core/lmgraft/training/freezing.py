"""What of a model is trained, and what keeps every bit: ``trainable``, ``trainable_layers`` and ``frozen_rows`` of an
:class:`~lmgraft.seams.parallelism.EnginePlan`.

What is frozen never reaches the optimizer. A parameter of another role or layer asks for no gradient, so torch leaves
its product out of the backward pass. Of a table with frozen rows the optimizer is given the other rows alone, as a
parameter of its own over the same memory. So frozen weights keep their bits under any optimizer, whatever it does to
what it is given (weight decay, momentum, a step without a gradient); the norm, the clipping and the sums over ranks are
of what is trained; nothing is copied; and the optimizer's state is as small as what it steps.

An engine of one module takes four lines of this::

    parts = freezing.trained(module, plan)
    optimizer = plan.optimizer.build([(part.name, part.rows, part.role) for part in parts])
    ...                                # forward and backward, through all microbatches
    for part in parts: part.take()     # the gradients of the rows, before they are summed over ranks and measured
    ...                                # norm, clipping and step are of [part.rows for part in parts]
    for part in parts: part.clear()

One that holds shards of its own asks :func:`first_rows` and :func:`lmgraft.training.weights.tensor_roles`, by canonical
names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import weights

__all__ = ["Trained", "first_row", "first_rows", "is_trained", "trained"]

#: Their rows are the vocabulary's.
TABLES = frozenset({Role.EMBEDDING, Role.HEAD})


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A parameter of the module, and those of its rows that are trained."""

    name: str
    """Canonical."""
    whole: nn.Parameter
    """The module's own."""
    rows: nn.Parameter
    """What the optimizer steps: ``whole`` itself, or a view of its rows beyond the frozen ones, in the same memory."""
    role: TensorRole
    """The architecture's word for it, with the learning rate that the initializer's rules give it."""

    def take(self) -> None:
        """Gives ``rows`` its part of the gradient that the backward passes left at ``whole``, none where there is none;
        a view, so that what is done to the one is done to the other."""
        if self.rows is not self.whole:
            grad = self.whole.grad
            self.rows.grad = None if grad is None else grad[-len(self.rows) :]

    def clear(self) -> None:
        """Forgets the gradient."""
        self.whole.grad = self.rows.grad = None


def trained(module: nn.Module, plan: EnginePlan) -> list[Trained]:
    """What of ``module`` is trained, in its own order; all other parameters no longer ask for gradients.

    Call it once the module lies on its device: weights are filled and loaded in place, as ``copy_`` does.

    :raises UserError: the plan has an optimizer, and nothing is trained.
    """
    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    firsts = first_rows(plan, {name: parameter.shape for name, parameter in named.items()})
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    roles = weights.tensor_roles(plan.architecture, plan.initializer, shapes)
    found = []
    for name, parameter in named.items():
        if name not in firsts:
            parameter.requires_grad_(False)
            continue
        first = firsts[name]
        rows = nn.Parameter(parameter.data[first:]) if first else parameter
        found.append(Trained(name, parameter, rows, roles[name]))
    return found


def first_rows(plan: EnginePlan, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
    """Canonical name -> number of its first row that is trained, of the parameters of which any is.

    ``shapes`` are the model's whole tensors, on every rank alike: what a rank's shard holds does not decide whether a
    parameter asks for gradients, since ranks that go through other backward passes wait for one another for ever.

    :raises UserError: the plan has an optimizer, and nothing is trained.
    """
    roles = {name: plan.architecture.role(name) for name in shapes}
    found = {
        name: first for name, shape in shapes.items() if (first := first_row(plan, roles[name], shape)) is not None
    }
    if plan.optimizer is not None and not found:
        raise UserError(_nothing(plan, roles.values()))
    return found


def first_row(plan: EnginePlan, role: TensorRole, shape: torch.Size) -> int | None:
    """The first row that is trained of a parameter of this role and whole shape; None where it is frozen altogether."""
    if not is_trained(role, plan.trainable, plan.trainable_layers):
        return None
    first = plan.frozen_rows if role.role in TABLES else 0
    return first if first == 0 or first < shape[0] else None


def is_trained(role: TensorRole, trainable: Collection[Role], layers: Collection[int]) -> bool:
    """Whether a parameter is trained, its frozen rows aside: one of a role in ``trainable`` and of a layer in
    ``layers``. Empty, each of the two allows everything; with ``layers``, what lies outside the stack is frozen unless
    its role is named. An adapter's weights are named by the stage and not by the user, so those outside the stack are
    frozen with it."""
    if trainable and role.role not in trainable:
        return False
    if layers and role.layer is None:
        return role.role in trainable and role.role is not Role.ADAPTER
    return not layers or role.layer in layers


def _nothing(plan: EnginePlan, roles: Collection[TensorRole]) -> Problem:
    named = ", ".join(sorted(role.value for role in plan.trainable)) or "all"
    fact = f"nothing is left to train: trainable is {named}"
    if plan.trainable_layers and not any(is_trained(role, plan.trainable, plan.trainable_layers) for role in roles):
        fact += f", and trainable_layers is {', '.join(map(str, sorted(plan.trainable_layers)))}"
        cause = "none of these layers has a parameter of such a role"
        return Problem(fact, cause, "name other layers in trainable_layers, or more in trainable")
    there = frozenset(role.role for role in roles)
    if plan.trainable & there:
        cause = f"all rows of what it names are frozen: frozen_rows is {plan.frozen_rows} of {plan.vocab_size}"
        return Problem(fact, cause, "freeze fewer rows, or name more in trainable")
    has = ", ".join(sorted(role.value for role in there))
    return Problem(fact, f"the architecture's parameters are of the roles {has}", "name some of these in trainable")
