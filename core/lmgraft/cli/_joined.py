"""``lmgraft run`` under torchrun or SLURM: rank 0 runs the recipe, the others do their part when it calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["run"]


def run(recipe: str, overrides: list[str], flags: Mapping[str, Any]) -> int:
    from lmgraft.cli import _running, _sweep
    from lmgraft.training import joining

    if not joining.joined():
        return (
            _sweep.sweep(recipe, overrides, flags) if flags["multirun"] else _running.single(recipe, overrides, flags)
        )
    if flags["multirun"]:
        cause = "the ranks of one job step one model together, and a sweep is many models"
        remedy = "start the sweep without torchrun (hydra/launcher=submitit for a cluster), or run one job at a time"
        raise UserError(Problem("--multirun inside torchrun", cause, remedy))
    if flags["dry_run"]:
        return _running.single(recipe, overrides, flags) if joining.rank() == 0 else 0
    if joining.rank() > 0:
        return joining.follow()
    with joining.leading():
        return _running.single(recipe, overrides, flags)
