"""A command whose sub-commands are the installed parts of one door: ``lmgraft merge METHOD``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lmgraft import table
from lmgraft.errors import UserError

if TYPE_CHECKING:
    from lmgraft.component import Component

__all__ = ["parts_of"]


def parts_of(seam: str, *, title: str, command: Callable[[Component[Any]], click.Command]) -> type[click.Group]:
    """The class of such a command: ``command`` makes the sub-command of a part, ``title`` heads them in ``--help``."""

    class Parts(click.Group):
        """A part is imported when it is called or listed."""

        def list_commands(self, ctx: click.Context) -> list[str]:
            return sorted({row.name for row in table.rows() if row.seam == seam})

        def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
            from lmgraft.registry import registry

            try:
                return command(registry().get(seam, name, f"lmgraft {self.name}").component)
            except UserError:
                if ctx.resilient_parsing:  # a shell completes a name half typed
                    return None
                raise

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            from lmgraft.registry import registry

            rows = []
            for name in self.list_commands(ctx):
                try:
                    rows.append((name, registry().get(seam, name).component.summary))
                except UserError as error:
                    rows.append((name, f"cannot be used: {error.problems[0].cause}"))
            with formatter.section(title):
                formatter.write_dl(rows or [("none", "pip install a distribution that brings one")])

    return Parts
