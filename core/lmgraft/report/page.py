"""Renders the page from its template. Texts in it come from strangers, so everything is escaped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lmgraft.report import views
from lmgraft.report.facts import Facts, gather
from lmgraft.report.funnels import funnel
from lmgraft.report.merges import merges
from lmgraft.report.packed import packed
from lmgraft.report.tokenizers import tokenizer

__all__ = ["FILE", "write"]

FILE = "report.html"
TEMPLATE = "report.html.j2"


def write(run_dir: Path) -> Path:
    """Writes the page whole or not at all: a browser that reloads never sees half of it."""
    page = run_dir / FILE
    partial = page.with_name(f".{FILE}.{os.getpid()}")
    partial.write_text(html(run_dir), encoding="utf-8", errors="replace", newline="\n")
    os.replace(partial, page)
    return page


def html(run_dir: Path) -> str:
    facts = gather(run_dir)
    run = facts.run
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        header=views.header(run, run_dir.resolve().name),
        scores=views.scores(facts),
        merges=merges(facts),
        training=views.charts(facts),
        funnels=[funnel(stage, data) for stage, data in facts.funnels.items()],
        tokenizers=list(_views(facts, facts.tokenizers, tokenizer)),
        packed=list(_views(facts, facts.packed, _packed(facts))),
        samples=views.samples(facts),
        stages=views.stages(run),
        parts=views.parts(run),
        recipe=_yaml(run.get("recipe") or {}),
        environment=views.environment(run),
        unread=facts.unread,  # after what may add to it
    )


def _views(
    facts: Facts, found: Mapping[str, Mapping[str, Any]], view: Callable[[str, Mapping[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What can be shown; of a file that holds something else than its stage writes the page says so."""
    for stage, files in found.items():
        try:
            yield view(stage, files)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            facts.unread.append(f"what {stage} measured cannot be shown: {type(error).__name__}: {error}")


def _packed(facts: Facts) -> Callable[[str, Mapping[str, Any]], dict[str, Any]]:
    recipe = facts.run.get("recipe") or {}
    return lambda stage, found: packed(stage, found, recipe.get(stage) or {}, facts.encoders.get(stage, ""))


def _yaml(recipe: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=100)) if recipe else ""
