"""``lmgraft store``: what the store holds, whether it is whole, and what can go."""

from __future__ import annotations

import shlex
from collections.abc import Sized
from pathlib import Path

import click

__all__ = ["human", "store"]


def human(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _place(folder: str | None) -> Path:
    from lmgraft.errors import Problem, UserError
    from lmgraft.paths import cache_dir

    if folder is None:
        return cache_dir() / "store"
    place = Path(folder).expanduser()
    if not (place / "format.json").is_file():
        cause = "there is no such folder" if not place.exists() else "it holds no format.json, as every store does"
        raise UserError(Problem(f"{place} is no store", cause, "give the store.dir of a run; its run.json names it"))
    return place


class _Command(click.Command):
    """A command whose only words are options: the store is named by one, and not as a recipe names it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from lmgraft.errors import Problem, UserError

        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            name = f"lmgraft store {ctx.info_name}"
            before, mark, folder = rest[0].rpartition("store.dir=")
            override = mark and before in ("", "+", "++")
            cause = "overrides are for recipes, and here" if override else "it takes no words but options:"
            remedy = f"{name} --dir {shlex.quote(folder)}"
            raise UserError(Problem(f"{name} {rest[0]}", f"{cause} --dir names the store", remedy))
        return rest


_OPTION = click.option("--dir", "folder", type=click.Path(), help="The store; by default the one in your cache folder.")


@click.group(
    epilog="""\b
Examples:
  lmgraft store ls
  lmgraft store verify --repair
  lmgraft store gc --dry-run
  lmgraft store gc --grace 0"""
)
def store() -> None:
    """The artifacts of every run, stored once each by content."""


@store.command("ls", cls=_Command)
@_OPTION
def ls(folder: str | None) -> int:
    """Lists the artifacts: kind, stage, digest, size, age, and how many runs use each."""
    from lmgraft.console import Console, duration
    from lmgraft.store import Store

    place = _place(folder)
    entries = Store(place).ls()
    if not entries:
        print(f"the store {place} is empty")
        return 0
    rows = [
        (entry.record.kind, str(entry.record.meta.get("stage", "")), str(entry.record.meta.get("recipe", "")),
         entry.record.digest[:12],
         human(entry.size), duration(entry.age), duration(entry.record.seconds), str(len(entry.users)))
        for entry in entries
    ]  # fmt: skip
    header = ("kind", "stage", "recipe", "digest", "size", "age", "built in", "runs")
    # Two actions may share one artifact: its bytes lie on the disk once.
    total = sum({entry.record.digest: entry.size for entry in entries}.values())
    Console().table(f"{len(entries)} artifacts, {human(total)} in {place}", header, rows, right=(4, 5, 6, 7))
    return 0


@store.command("verify", cls=_Command)
@_OPTION
@click.option("--repair", is_flag=True, help="Remove what is damaged, so that it is built anew.")
def verify(folder: str | None, repair: bool) -> int:
    """Reads every artifact again, compares it with its digest and looks whether it is a sound one of its kind.

    Exit code 2 where one is damaged or unsound.
    """
    from lmgraft.artifacts.rules import broken
    from lmgraft.console import Console
    from lmgraft.errors import UserError
    from lmgraft.store import Store

    place = _place(folder)
    console = Console()
    with console.progress("reading", None, "B") as bar:
        before = 0

        def seen(done: int, total: int) -> None:
            nonlocal before
            bar.total(total)
            bar.advance(done - before)
            before = done

        problems = Store(place).verify(seen, repair=repair, broken=broken)
    if problems:
        raise UserError(problems)
    print(f"the store {place} is whole: {human(before)} read")
    return 0


@store.command("gc", cls=_Command)
@_OPTION
@click.option("--grace", default=86_400.0, show_default=True, help="Seconds that an unused artifact is kept.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(folder: str | None, grace: float, dry_run: bool) -> int:
    """Removes what no run directory uses and nobody touched within the grace."""
    from lmgraft.errors import Problem, UserError
    from lmgraft.store import Store

    if grace < 0:
        raise UserError(
            Problem(
                f"--grace {grace}", "it counts seconds and cannot be negative", "--grace 0 removes all that is unused"
            )
        )
    report = Store(_place(folder)).gc(grace, dry_run=dry_run)
    kinds: dict[str, Sized] = {
        "finished actions": report.actions,
        "artifacts": report.objects,
        "half-done works": report.work,
        "vanished runs": report.runs,
    }
    gone = ", ".join(f"{len(items)} {kind}" for kind, items in kinds.items() if items)
    print(
        f"{'would free' if dry_run else 'freed'} {human(report.freed)}"
        + (f": {gone}" if gone else "; nothing is unused")
    )
    return 0
