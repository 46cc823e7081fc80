"""Faults of an initializer's rules for learning rates, and of an optimizer that is to obey them."""

from __future__ import annotations

from faults.fault import Fault, light

__all__ = ["FAULTS"]

#: Meant to leave norms as they are; a rate of 0 is for ``trainable``, which keeps their optimizer state away too.
FROZEN_NORMS = Fault(
    name="frozen-norms",
    seam="initializer",
    files={
        "plugin.py": light(
            "initializer",
            "Normal weights, norms that learn slowly",
            '''
            norms: float = 0.1
            """The learning rate of norms is so many times the step's."""
            ''',
        ),
        "part.py": """\
            from lmgraft.seams.architecture import Role


            class Part:
                def __init__(self, config):
                    self.config = config

                def fill(self, tensor, role, shape, generator):
                    if role.role is Role.NORM:
                        tensor.fill_(1.0)
                    elif role.role is Role.BIAS:
                        tensor.zero_()
                    else:
                        tensor.normal_(0.0, 0.02, generator=generator)

                def lr_scale(self, role, size, shape):
                    return self.config.norms if role.role is Role.NORM else 1.0
        """,
    },
    slips=(("return self.config.norms if", "return 0.0 if"),),
    check="test_learning_rates",
    says=("frozen_norms", "the norm", "learning rate 0.0", "above 0"),
)

#: Written before initializers had rules for learning rates.
ONE_RATE = Fault(
    name="one-rate",
    seam="optimizer",
    files={
        "plugin.py": light(
            "optimizer",
            "Root mean square of gradients, matrices and vectors apart",
            '''
            lr: float = 0.001
            """The schedule's peak."""
            ''',
        ),
        "part.py": """\
            import torch


            class Part:
                def __init__(self, config):
                    self.config = config

                def peak(self):
                    return self.config.lr

                def build(self, parameters):
                    groups = {}
                    for _, parameter, role in parameters:
                        groups.setdefault((parameter.dim() > 1, role.lr_scale), []).append(parameter)
                    made = [{"params": held, "scale": scale} for (_, scale), held in groups.items()]
                    return torch.optim.RMSprop(made, lr=self.config.lr)
        """,
    },
    slips=(('{"params": held, "scale": scale}', '{"params": held}'),),
    check="test_rates_of_single_parameters",
    says=("one_rate", "lr_scale", '"scale": role.lr_scale'),
)

FAULTS = [FROZEN_NORMS, ONE_RATE]
