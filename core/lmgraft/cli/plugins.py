"""``lmgraft plugins``: list (metadata only), show (imports one light module), why and check (import under guard)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any, get_args

import click

from lmgraft import table
from lmgraft.cli._check import brings_nothing, check
from lmgraft.errors import Problem, UserError
from lmgraft.table import Row

__all__ = ["plugins"]


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  lmgraft plugins list
  lmgraft plugins list --seam filter
  lmgraft plugins show llama
  lmgraft plugins why my-dpo
  lmgraft plugins check my-dpo""",
)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """The installed parts."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@plugins.command("list")
@click.option("--seam", help="Only this seam or door.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(seam: str | None = None, as_json: bool = False) -> None:
    """Lists every part from metadata; imports none of them."""
    rows = [row for row in table.listed() if seam in (None, row.seam)]
    if seam is not None and not rows:
        _unknown_seam(seam)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    from lmgraft.console import Console

    cells = [
        (row.seam, row.name, f"{row.distribution} {row.version}", row.module, row.state, row.reason) for row in rows
    ]
    if not any(row.reason for row in rows):
        cells_without = [cell[:-1] for cell in cells]
        Console().table(_count(rows), ("seam", "name", "distribution", "module", "state"), cells_without)
        return
    Console().table(_count(rows), ("seam", "name", "distribution", "module", "state", "reason"), cells)


def _count(rows: Sequence[Row]) -> str:
    """Of parts: a distribution that cannot be read is a row too, and none."""
    parts = sum(bool(row.seam) for row in rows)
    return f"{parts} part{'' if parts == 1 else 's'}"


def _unknown_seam(seam: str) -> None:
    from lmgraft.version import DOORS, SEAMS

    names = (*SEAMS, *DOORS)
    if seam in names:
        return
    raise UserError(
        Problem(
            f"there is no seam {seam!r}",
            f"the seams are {', '.join(names)}",
            table.close(seam, names) or "lmgraft plugins list",
        )
    )


@plugins.command("show")
@click.argument("name")
@click.option("--seam", help="Where two seams have a part of this name.")
def show(name: str, seam: str | None) -> None:
    """Shows a part: what it does, where it comes from, its settings with their defaults."""
    from lmgraft.registry import registry

    name, _, variant = name.partition("/")
    found = [row for row in table.rows() if row.name == name and seam in (None, row.seam)]
    if variant:
        _refuse_variant(name, variant, found)
    if not found:
        _refuse_fault(name)
        names = sorted({row.name for row in table.rows()})
        raise UserError(
            Problem(
                f"there is no part named {name!r}",
                "no installed distribution promises it",
                table.close(name, names) or "lmgraft plugins list",
            )
        )
    for row in found:
        installed = registry().get(row.seam, row.name)
        component = installed.component
        print(f"{row.seam} {row.name}: {component.summary}")
        print(f"  from      {row.distribution} {row.version}{' (editable)' if row.editable else ''}, {row.module}")
        print(f"  target    {component.target}")
        print(f"  revision  {component.revision}, api {component.api}")
        if component.requires:
            print(f"  requires  {', '.join(component.requires)}")
        if component.variants:
            print(f"  variants  {', '.join(f'{name}/{variant}' for variant in component.variants)}")
        _neighbours(component.config)
        print(f"  use it    {_usage(row.seam, row.name)}\n")
        _settings(component.config)


def _neighbours(config: type[Any]) -> None:
    """What the part needs and provides with its defaults; some settings change that, and some have no default."""
    try:
        made = config()
        told = {"needs": made.needs(), "provides": made.provides()}
    except Exception:  # a required value that its methods look at
        return
    for word, names in told.items():
        if names:
            print(f"  {word:<9} {', '.join(sorted(names))}")


def _refuse_variant(name: str, variant: str, found: Sequence[Row]) -> None:
    """A variant is shown with its part; one that is not there is told beside those that are."""
    from lmgraft.registry import registry

    variants = [known for row in found for known in registry().get(row.seam, row.name).component.variants]
    if found and variant not in variants:
        cause = f"its variants are {', '.join(variants) or 'none'}"
        remedy = table.close(variant, variants) or f"lmgraft plugins show {name}"
        raise UserError(Problem(f"{name} has no variant {variant!r}", cause, remedy))


def _refuse_fault(name: str) -> None:
    """A name that stands in a group which is no seam's is promised, and yet no part."""
    for row in table.faults():
        if name and row.name == name:
            fact = f"{name!r} of {row.distribution} {row.version} is no part"
            raise UserError(Problem(fact, row.reason, row.remedy))


def _usage(seam: str, name: str) -> str:
    from lmgraft.version import MANY

    if seam == "lifecycle":
        return f"+lifecycle=[{name}]"
    if seam == "parallelism":
        return f"parallelism={name}"
    if seam in MANY:
        return f"{seam}@STAGE.SLOT=[{name}]"
    chosen = f"{seam}@STAGE{'' if seam == 'stage' else '.SLOT'}={name}"
    if seam in ("adapter", "initializer"):  # slots that recipes may leave empty
        return f"{chosen}, or +{chosen} where the recipe chooses none"
    command = {"merge": "merge", "exporter": "export"}.get(seam)
    return f"{chosen}, or lmgraft {command} {name} --help" if command else chosen


def _settings(config: type[Any]) -> None:
    import dataclasses

    from lmgraft.cli._docs import field_docs
    from lmgraft.console import Console

    docs, types = field_docs(config), _types(config)
    rows = []
    for spec in dataclasses.fields(config):
        if spec.name in ("part", "kind"):
            continue
        default = spec.default if spec.default is not dataclasses.MISSING else None
        if spec.default_factory is not dataclasses.MISSING:
            default = spec.default_factory()
        shown = getattr(default, "name", default) if isinstance(default, Enum) else default
        kind = spec.metadata.get("slot") or ("execution" if spec.metadata.get("execution") else "result")
        rows.append(
            (
                spec.name,
                _type(types.get(spec.name, spec.type)),
                "required" if shown == "???" else str(shown),
                kind,
                docs.get(spec.name, ""),
            )
        )
    if rows:
        Console().table("Settings", ("name", "type", "default", "counts as", "meaning"), rows)


def _types(config: type[Any]) -> dict[str, Any]:
    from typing import get_type_hints

    try:
        return get_type_hints(config)
    except (NameError, TypeError):  # annotations that only a type checker can read
        return {}


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(member.name for member in annotation)
    choices = [_type(one) for one in get_args(annotation) if isinstance(one, type) and issubclass(one, Enum)]
    if choices and len(get_args(annotation)) == 2:  # or null
        return f"{choices[0]} | None"
    return str(annotation).replace("typing.", "") if not isinstance(annotation, type) else annotation.__name__


def _explain(row: Row) -> bool:
    """Prints a row's state after trying it, with what is wrong or deprecated; whether it can be used."""
    from lmgraft.registry import registry

    state, cause, remedy = registry().state(row)
    print(f"{row.seam} {row.name}: {state}" if row.seam else f"{row.distribution}: {state}")
    if state != "ok":
        print(f"  because: {cause}\n  try: {remedy}")
        return False
    for note in registry().notes(row):
        print(f"  note: {note}")
    return True


@plugins.command("why")
@click.argument("distribution")
def why(distribution: str) -> int:
    """Tries every part of a distribution and says why one does not work."""
    rows = [row for row in table.listed() if table.canonical(row.distribution) == table.canonical(distribution)]
    if not rows:
        raise brings_nothing(distribution)
    bad = sum(not _explain(row) for row in rows)
    print(f"{rows[0].distribution} {rows[0].version}: {_count(rows)}, {bad} not usable")
    return 0


plugins.add_command(check)
