"""``lmgraft run``: compose, check, run; or sweep; or only look."""

from __future__ import annotations

import os
from typing import Any

import click

from lmgraft.cli import _complete

__all__ = ["run"]

EPILOG = """\b
Examples:
  lmgraft run quickstart
  lmgraft run quickstart pretrain.steps=500 pretrain.optimizer.lr=1e-3
  lmgraft run quickstart data.path=my_texts/
  lmgraft run quickstart schedule@pretrain.schedule=step_decay
  lmgraft run quickstart filter@corpus.filters=[exact_dedup]
  lmgraft run quickstart --multirun pretrain.optimizer.lr=1e-3,2e-3,4e-3
  lmgraft run my_recipe.yaml run.dir=out store.dir=/big/disk --dry-run
  lmgraft run quickstart --cfg job --package pretrain

\b
RECIPE is an installed recipe (lmgraft recipes) or a path to a YAML file.
OVERRIDES are Hydra's: KEY=VALUE sets a value, SEAM@WHERE=NAME swaps a part.
A run that was stopped or killed goes on when the same command is given again."""


_INFO = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]


@click.command(epilog=EPILOG, context_settings={"ignore_unknown_options": False})
@click.argument("recipe", shell_complete=_complete.recipes)
@click.argument("overrides", nargs=-1, shell_complete=_complete.overrides)
@click.option("-m", "--multirun", is_flag=True, help="Sweep: every combination of comma-separated values is a job.")
@click.option("--dry-run", is_flag=True, help="Check, and print what would run and what is reused.")
@click.option(
    "--accept-drift", is_flag=True, help="Go on with half-done work although a part's code changed; recorded."
)
@click.option("--restart", is_flag=True, help="Drop half-done work of these stages and begin them anew.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only the table at the end.")
@click.option("-c", "--cfg", type=click.Choice(["job", "hydra", "all"]), help="Print the composed config and exit.")
@click.option("-p", "--package", help="With --cfg: only this part of it.")
@click.option("--resolve", is_flag=True, help="With --cfg: references resolved.")
@click.option("-i", "--info", type=click.Choice(_INFO),
              help="Print what Hydra knows of the composition and exit.")  # fmt: skip
@click.option("--hydra-help", is_flag=True, help="Hydra's own help and exit.")
def run(recipe: str, overrides: tuple[str, ...], **flags: Any) -> int:
    """Composes RECIPE with OVERRIDES, checks everything, and runs its stages."""
    from lmgraft.cli import _running

    if (flags["package"] or flags["resolve"]) and not flags["cfg"]:
        raise click.UsageError("--package and --resolve say what --cfg prints: --cfg job --package pretrain")
    if flags["cfg"] or flags["info"] or flags["hydra_help"]:
        return _running.look(recipe, list(overrides), flags)
    if "WORLD_SIZE" in os.environ:  # else torch need not be looked at
        from lmgraft.cli import _joined

        return _joined.run(recipe, list(overrides), flags)
    if flags["multirun"]:
        from lmgraft.cli import _sweep

        return _sweep.sweep(recipe, list(overrides), flags)
    return _running.single(recipe, list(overrides), flags)
