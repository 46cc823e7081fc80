"""The page of a run: one HTML file that needs no network and no script."""

from __future__ import annotations

from pathlib import Path

__all__ = ["render"]


def render(run_dir: Path) -> Path:
    """Writes ``report.html`` into a run directory and returns its path.

    Finished, failed and unfinished runs all have a page: what is not there yet is left out. Raises
    :class:`~lmgraft.errors.UserError` where ``run_dir`` is no run directory.
    """
    from lmgraft.report.page import write

    return write(run_dir)
