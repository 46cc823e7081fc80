"""What a run left behind, read with patience: a run that failed or is still at work lacks files, and has a page too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraft.artifacts.scores import SAMPLES, SCORES, SampleRow, ScoreRow, read, read_samples
from lmgraft.errors import Problem, UserError

__all__ = ["Facts", "Metrics", "gather"]

MANIFEST = "run.json"
METRICS = "metrics.jsonl"
STAGES = "stages"
FUNNEL = "funnel.json"
MEASURE = "measure.json"
CHANGED = "changed.jsonl"
TOKENS = "tokens.json"
ROWS = "rows.json"


@dataclass
class Metrics:
    """The rows of one train stage: name -> step -> value. Values that are not finite are left out."""

    values: dict[str, dict[float, float]] = field(default_factory=dict)
    reused: bool = False
    skipped: int = 0
    """Steps without a finite gradient."""

    def add(self, row: Mapping[str, Any]) -> None:
        step = row.get("step")
        if not isinstance(step, int | float):
            return
        self.reused = self.reused or bool(row.get("reused"))
        self.skipped += bool(row.get("skipped"))
        for name, value in row.items():
            if name == "step" or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                # A step that was done again after a restart replaces what the first attempt said.
                self.values.setdefault(name, {})[float(step)] = float(value)

    def points(self, name: str) -> list[tuple[float, float]]:
        """(step, value), ascending."""
        return sorted(self.values.get(name, {}).items())


@dataclass
class Facts:
    """All that the page shows."""

    run: dict[str, Any]
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """By stage, in the order of first mention."""
    funnels: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, list[ScoreRow]] = field(default_factory=dict)
    """By evaluate stage."""
    tokenizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage, what its artifact says: ``measure``, ``sample``, ``look``, and the first rows of ``changed``."""
    packed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage, ``tokens.json`` or ``rows.json``; ``lengths`` by split where the file does not hold them."""
    encoders: dict[str, str] = field(default_factory=dict)
    """By stage, the library that encoded its text."""
    samples: list[SampleRow] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """What is there and could not be read, in words."""


def gather(run_dir: Path) -> Facts:
    """Reads run.json, metrics.jsonl and the artifacts under ``stages/``.

    Raises UserError where the folder holds neither of the first two.
    """
    if not (run_dir / MANIFEST).is_file() and not (run_dir / METRICS).is_file():
        cause = f"it holds neither {MANIFEST} nor {METRICS}"
        remedy = "name the folder of a run: lmgraft runs lists them"
        raise UserError(Problem(f"{run_dir} is no run directory", cause, remedy))
    facts = Facts(run={})
    manifest = _json(run_dir / MANIFEST, facts.unread)
    if isinstance(manifest, dict):
        facts.run = manifest
    for row in _rows(run_dir / METRICS):
        facts.metrics.setdefault(str(row.get("stage", "")), Metrics()).add(row)
        if isinstance(row.get("encoder"), str):
            facts.encoders[str(row.get("stage", ""))] = row["encoder"]
    for stage, folder in _artifacts(run_dir, facts.run):
        _artifact(stage, folder, facts)
    if not facts.scores:
        for stage, score in _recorded(facts.run.get("scores")):
            facts.scores.setdefault(stage, []).append(score)
    return facts


def _json(path: Path, unread: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        unread.append(f"{path.name} cannot be read: {error}")
        return None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of metrics.jsonl; a run that was killed may have left half a line at the end."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _artifacts(run_dir: Path, run: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """(stage, its folder), in the order of the run, then any that the manifest does not know."""
    from lmgraft.rundir import linked

    folder = run_dir / STAGES
    names = [*(run.get("stages") or {}), *(sorted(path.stem for path in folder.iterdir()) if folder.is_dir() else ())]
    for name in dict.fromkeys(names):
        place = linked(run_dir, name)
        if place is not None and place.is_dir():
            yield name, place


def _artifact(stage: str, folder: Path, facts: Facts) -> None:
    funnel = _json(folder / FUNNEL, facts.unread)
    if isinstance(funnel, dict):
        facts.funnels[stage] = funnel
    measured = _json(folder / MEASURE, facts.unread)
    if isinstance(measured, dict):
        others = {name: _json(folder / f"{name}.json", facts.unread) for name in ("sample", "look")}
        facts.tokenizers[stage] = {"measure": measured, **others, "changed": _changed(folder)}
    for name in (TOKENS, ROWS):
        held = _json(folder / name, facts.unread)
        if isinstance(held, dict):
            facts.packed[stage] = held | ({"lengths": _lengths(folder, held, facts.unread)} if name == TOKENS else {})
    try:
        if (folder / SCORES).is_file():
            facts.scores[stage] = read(folder)
        if (folder / SAMPLES).is_file():
            facts.samples += read_samples(folder)
    except UserError as error:
        facts.unread += [f"{problem.fact}: {problem.cause}" for problem in error.problems]


def _changed(folder: Path) -> list[Any]:
    from lmgraft.report.tokenizers import changed_lines

    found = []
    for line in changed_lines(folder / CHANGED):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _lengths(folder: Path, held: Mapping[str, Any], unread: list[str]) -> dict[str, dict[str, int]]:
    from lmgraft.report.packed import lengths

    found = {}
    for split in held.get("splits") or ():
        try:
            found[str(split)] = lengths(folder, str(split))
        except UserError as error:
            unread += [f"{problem.fact}: {problem.cause}" for problem in error.problems]
    return found


def _recorded(rows: Any) -> Iterator[tuple[str, ScoreRow]]:
    """(evaluate stage, score) as run.json keeps them, for a run whose artifacts are gone."""
    for row in rows if isinstance(rows, list) else ():
        try:
            score = ScoreRow(
                stage=str(row["stage"]),
                evaluator=str(row["evaluator"]),
                name=str(row["name"]),
                value=float(row["value"]),
                unit=str(row.get("unit", "")),
                reference=bool(row.get("reference", False)),
                higher_is_better=bool(row.get("higher_is_better", True)),
                detail=row.get("detail") or {},
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        yield str(row.get("evaluate_stage", "")), score
