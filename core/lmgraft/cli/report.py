"""``lmgraft report``: writes a run's page anew."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command(
    epilog="\b\nExamples:\n  lmgraft report runs/quickstart/2026-01-31_12-00-00\n  lmgraft report out --open"
)
@click.argument("run", type=click.Path())
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
def report(run: str, show: bool) -> int:
    """Writes RUN/report.html: curves, funnel, scores, parts; one file that needs no network."""
    from lmgraft.api import open_run
    from lmgraft.report import render

    page = render(open_run(Path(run)).dir)
    print(page)
    if show:
        click.launch(str(page))
    return 0
