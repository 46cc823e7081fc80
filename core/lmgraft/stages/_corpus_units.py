"""What a corpus stage reads: the active sources, their units, and the units cut into tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmgraft.errors import Fault, Problem, UserError
from lmgraft.seams.data_source import Unit
from lmgraft.seams.stage import StageContext
from lmgraft.stages.plugin import CorpusStage

__all__ = ["Read", "active_sources", "cut", "inputs_digest", "path_digests", "source_digest", "unit_size"]

TASK_BYTES = 16 << 20
TASK_UNITS = 200
TASKS = 64
"""As many are made of a small input, down to a sixteenth of those sizes: there is something for each worker."""


@dataclass(frozen=True)
class Read:
    """A task: a run of one source's units, read into one part."""

    name: str
    source: str
    units: tuple[Unit, ...]
    size: int


def active_sources(context: StageContext, config: CorpusStage) -> list[str]:
    """The sources to read, and a note where they are the fallback; a :class:`UserError` where there are none."""
    names = list(config.sources)
    chosen = config.reading([name for name in names if context.component(f"sources.{name}")[1].ready()])
    if chosen:
        idle = [name for name in names if name not in config.fallback]
        if idle and chosen[0] in config.fallback:
            context.note(f"{context.name}: {', '.join(idle)} not set; reading {', '.join(chosen)}")
        return chosen
    if not names:
        fact, cause = f"{context.name} has no source", "its sources are an empty list"
        raise UserError(Problem(fact, cause, f"data_source@{context.name}.sources=[files]"))
    keys = [f"{context.name}.sources.{name}.path" for name in names]
    cause = f"{' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} not set"
    remedy = f"{keys[0]}=PATH, a file or folder of documents"
    raise UserError(Problem(f"{context.name} has nothing to read", cause, remedy))


def source_digest(context: StageContext, source: str, units: Sequence[Unit]) -> str:
    """sha256 of what a source holds: each unit's id, range and content; no path and no clock."""
    rows = [[unit.id, unit.start, unit.end, _content(context, source, unit)] for unit in units]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _content(context: StageContext, source: str, unit: Unit) -> str:
    if unit.path is not None:
        return _file_digest(context, f"sources.{source}", Path(unit.path))
    if unit.digest is None:
        raise Fault(f"source {source!r}: unit {unit.id!r} has neither a path nor a digest, so nothing pins its content")
    return unit.digest


def inputs_digest(context: StageContext, name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """:func:`path_digests` of what a filter learns from."""
    return path_digests(context, f"filters.{name}", inputs)


def path_digests(context: StageContext, key: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """Role -> sha256 of the file, or of the folder's files in the order of their names, that the part ``key`` reads."""
    return {role: _path_digest(context, key, Path(path).expanduser()) for role, path in sorted(inputs.items())}


def _path_digest(context: StageContext, key: str, path: Path) -> str:
    if not path.is_dir():
        return _file_digest(context, key, path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    rows = [[entry.relative_to(path).as_posix(), _file_digest(context, key, entry)] for entry in files]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _file_digest(context: StageContext, key: str, path: Path) -> str:
    try:
        return context.file_digest(path)
    except OSError as error:
        fact = f"{context.name}.{key}: {path} cannot be read"
        raise UserError(Problem(fact, error.strerror or str(error), "check that it exists and is yours")) from error


def unit_size(unit: Unit) -> int:
    """Bytes, as well as they are known: for progress and for cutting."""
    if unit.size:
        return unit.size
    if unit.end is not None:
        return max(0, unit.end - unit.start)
    try:
        return Path(unit.path).stat().st_size - unit.start if unit.path else 0
    except OSError:
        return 0


def cut(units: Mapping[str, Sequence[Unit]]) -> list[Read]:
    """Contiguous runs of each source's units: 16 MB or 200 units each at most, whatever the number of workers."""
    tasks: list[Read] = []
    total = sum(unit_size(unit) for own in units.values() for unit in own)
    most_bytes = min(TASK_BYTES, max(TASK_BYTES // 16, total // TASKS))
    most_units = min(TASK_UNITS, max(TASK_UNITS // 16, sum(map(len, units.values())) // TASKS))
    for source, own in units.items():
        for run, size in _runs(own, most_bytes, most_units):
            tasks.append(Read(f"part-{len(tasks):06d}", source, run, size))
    return tasks


def _runs(units: Sequence[Unit], most_bytes: int, most_units: int) -> Iterator[tuple[tuple[Unit, ...], int]]:
    run: list[Unit] = []
    total = 0
    for unit in units:
        size = unit_size(unit)
        if run and (total + size > most_bytes or len(run) == most_units):
            yield tuple(run), total
            run, total = [], 0
        run.append(unit)
        total += size
    if run:
        yield tuple(run), total
