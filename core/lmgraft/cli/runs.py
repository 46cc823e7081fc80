"""``lmgraft runs``: list, resume and delete run directories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

__all__ = ["runs"]


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  lmgraft runs
  lmgraft runs list experiments/
  lmgraft runs resume runs/quickstart/2026-01-31_12-00-00
  lmgraft runs delete runs/quickstart/2026-01-31_12-00-00""",
)
@click.pass_context
def runs(ctx: click.Context) -> None:
    """Lists, resumes and deletes runs. Artifacts live in the store: lmgraft store gc frees them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@runs.command("list")
@click.argument("folder", default="runs", type=click.Path())
def list_(folder: str = "runs") -> int:
    """Every run below FOLDER (by default ./runs), newest first."""
    from lmgraft.console import Console, duration

    rows = []
    for place, data in sorted(_found(Path(folder)), key=lambda item: str(item[1].get("started", "")), reverse=True):
        score = next((s for s in data.get("scores", ()) if s["name"] == "bits_per_byte"), None) or next(
            iter(data.get("scores", ())), None
        )
        shown = f"{score['name']} {score['value']:.4f}" if score else ""
        seconds = duration(float(data.get("seconds", 0)))
        rows.append(
            (
                str(place),
                str(data.get("recipe_name", "")),
                _status(data),
                str(data.get("started", "")),
                seconds,
                shown,
                _size(place),
            )
        )
    if not rows:
        print(f"no run below {folder}; lmgraft run quickstart makes one")
        return 0
    Console().table(
        f"{len(rows)} runs", ("run", "recipe", "status", "started", "took", "score", "size"), rows, right=(4, 6)
    )
    return 0


@runs.command("resume")
@click.argument("run", type=click.Path())
def resume(run: str) -> int:
    """Gives a run's own command again, into the same directory: finished stages are reused."""
    from lmgraft.api import open_run
    from lmgraft.cli import _running
    from lmgraft.cli._repeat import overrides_of, quoted

    opened = open_run(run)
    lines = [*overrides_of(opened, set()), f"run.dir={quoted(opened.dir.absolute())}"]
    return _running.single(opened.data["recipe_source"], lines, {})


@runs.command("delete")
@click.argument("run", nargs=-1, required=True, type=click.Path())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(run: tuple[str, ...], yes: bool) -> int:
    """Deletes run directories. Their artifacts stay in the store until lmgraft store gc."""
    from lmgraft.api import open_run

    opened = [open_run(item) for item in run]  # all of them are runs, or nothing is deleted
    for item in opened:
        if yes or click.confirm(f"delete {item.dir} ({_size(item.dir)})?"):
            shutil.rmtree(item.dir)
            print(f"deleted {item.dir}")
    return 0


def _found(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    from lmgraft import manifest

    for root, folders, files in os.walk(folder):
        if manifest.FILE in files:
            folders[:] = []
            try:
                yield Path(root), manifest.read(Path(root))
            except (OSError, ValueError):
                yield Path(root), {"status": "unreadable"}


def _status(data: dict[str, Any]) -> str:
    """A run that says ``running`` may have been killed; its stages tell how far it came."""
    status = str(data.get("status"))
    if status != "running":
        return status
    current = [name for name, stage in data.get("stages", {}).items() if stage.get("status") == "running"]
    return f"running or killed{' in ' + current[0] if current else ''}"


def _size(folder: Path) -> str:
    from lmgraft.cli.store import human

    # Links into the store are not followed: what a run itself takes.
    return human(
        sum(
            path.lstat().st_size
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink() and "stages" not in path.relative_to(folder).parts
        )
    )
