"""The last step of a corpus: which groups are kept and which held out, how sources are mixed, shards, and funnel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lmgraft.artifacts.corpus import FUNNEL, shard_name
from lmgraft.errors import Problem, UserError
from lmgraft.seams.stage import StageContext
from lmgraft.stages._corpus_crew import Crew
from lmgraft.stages._corpus_damage import as_funnel, reasons
from lmgraft.stages._corpus_groups import BUCKETS, TRAIN, VALIDATION, Selection, choose_held, choose_limit
from lmgraft.stages._corpus_meter import metered
from lmgraft.stages._corpus_mixture import Mixed, absent, mix
from lmgraft.stages._corpus_parts import write_atomically
from lmgraft.stages._corpus_pipeline import Survivors
from lmgraft.stages._corpus_shards import (
    Layout,
    Measure,
    Piece,
    Plan,
    ShardTask,
    content_of,
    lay_out,
    measure,
    write_shard,
)
from lmgraft.stages._corpus_tally import Tally
from lmgraft.stages.plugin import CorpusStage

__all__ = ["Publisher"]

SPLITS = {TRAIN: "train", VALIDATION: "validation"}


@dataclass
class Totals:
    """What the plans of all parts add up to."""

    documents: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bytes: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    characters: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    sources: dict[str, dict[int, dict[str, int]]] = field(default_factory=dict)
    """Source -> split -> ``documents`` and ``bytes``."""
    shards: dict[int, list[tuple[list[Piece], int]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    """Split -> for each shard its pieces and its bytes."""
    form: int = 0
    held: set[int] = field(default_factory=set)
    dropped: Tally = field(default_factory=lambda: Tally("max_bytes"))

    def add(self, name: str, epoch: int, plan: Plan, shard_bytes: int) -> None:
        source = self.sources.setdefault(plan.source, {split: {"documents": 0, "bytes": 0} for split in SPLITS})
        for split in SPLITS:
            sizes = plan.sizes[split]
            self.documents[split] += len(sizes)
            self.bytes[split] += int(sizes.sum())
            self.characters[split] += plan.characters[split]
            source[split]["documents"] += len(sizes)
            source[split]["bytes"] += int(sizes.sum())
            _lay(self.shards[split], (name, plan.source, epoch), sizes, shard_bytes)
        self.form |= plan.form
        self.held |= plan.held
        self.dropped.add(plan.dropped)


def _lay(shards: list[tuple[list[Piece], int]], part: tuple[str, str, int], sizes: Any, shard_bytes: int) -> None:
    """Lays a part's rows into shards; a new one begins where the next row would carry the last above its size."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        if not shards:
            shards.append(([], 0))
        pieces, used = shards[-1]
        before = int(ends[first - 1]) if first else 0
        stop = int(np.searchsorted(ends, before + shard_bytes - used, side="right"))
        if stop <= first and pieces:
            shards.append(([], 0))
            continue
        stop = max(stop, first + 1)
        pieces.append(Piece(*part, first, stop))
        shards[-1] = (pieces, used + int(ends[stop - 1]) - before)
        first = stop


class Publisher:
    def __init__(self, context: StageContext, config: CorpusStage, crew: Crew) -> None:
        self._context = context
        self._config = config
        self._crew = crew

    def publish(self, survivors: Survivors) -> None:
        """Writes shards and funnel into the artifact's folder."""
        self._refuse_nothing(survivors)
        selection = self._select(survivors)
        mixed = None
        if any(name in self._config.mixture.weights for name in survivors.read):
            mixed = mix(self._context, self._crew, self._config.mixture, survivors, selection)
            selection = replace(selection, quotas=mixed.quotas, mark=mixed.mark)
        totals = self._lay_out(survivors, selection)
        self._write_shards(survivors, selection, totals)
        told = self._funnel(survivors, totals, mixed, selection)
        for note in absent(told["mixture"]) if mixed else ():
            self._context.note(f"{self._context.name}: {note}")
        funnel = json.dumps(told, sort_keys=True, indent=1, ensure_ascii=False)
        write_atomically(self._context.out / FUNNEL, funnel + "\n")

    def _refuse_nothing(self, survivors: Survivors) -> None:
        if survivors.rows:
            return
        stage = self._context.name
        broken = "; ".join(f"{name} has {reasons(own['reasons'])}" for name, own in survivors.damaged.items())
        if not any(read["documents"] for read in survivors.read.values()):
            names = ", ".join(survivors.read)
            fact, cause = f"{stage}: nothing was read", f"the sources ({names}) hold no documents"
            if broken:
                remedy = f"mend the input; {stage}.corrupt=stop shows the first in full"
                raise UserError(Problem(fact, f"all that the sources hold is damaged: {broken}", remedy))
            raise UserError(Problem(fact, cause, f"point {stage}.sources at files that hold text"))
        worst = max(survivors.tallies, key=lambda tally: tally.dropped.total())
        told = "; ".join(f"{t.name} kept {t.kept:,} of {t.seen:,}{_reasons(t)}" for t in survivors.tallies)
        told += f"; and not all could be read: {broken}" if broken else ""
        remedy = f"loosen {stage}.filters.{worst.name} (lmgraft explain lists its settings) or leave the filter out"
        raise UserError(Problem(f"{stage}: the filters dropped every document", told, remedy))

    def _select(self, survivors: Survivors) -> Selection:
        selection = Selection(self._context.seed)
        if self._config.max_bytes is not None:
            sizes = self._measure(survivors, selection, holdout=False)
            limit = choose_limit(sizes, self._config.max_bytes)
            # A limit that everything fits below takes documents without text too.
            selection = replace(selection, limit=BUCKETS if sizes[limit:].sum() == 0 else limit)
            if (taken := int(sizes[:limit].sum())) > self._config.max_bytes:
                note = f"the first group alone has {taken:,} bytes, above max_bytes={self._config.max_bytes:,}"
                self._context.note(f"{self._context.name}: {note}")
        if not self._config.validation_bytes:
            return selection
        sizes = self._measure(survivors, selection, holdout=True)
        if np.count_nonzero(sizes) == 1:
            selection = replace(selection, by_document=True)
            sizes = self._measure(survivors, selection, holdout=True)
            self._context.note(f"{self._context.name}: all text is of one group (a file); pieces of it are held out")
        held = choose_held(sizes, self._config.validation_bytes)
        if held is None:
            raise UserError(self._cannot_hold_out(sizes))
        return replace(selection, held=held)

    def _cannot_hold_out(self, sizes: Any) -> Problem:
        stage, wanted, total = self._context.name, self._config.validation_bytes, int(sizes.sum())
        fact = f"{stage}.validation_bytes={wanted} cannot be held out"
        if np.count_nonzero(sizes) < 2:
            cause = f"all {total:,} bytes are one document, and a document is never split"
            return Problem(fact, cause, f"{stage}.validation_bytes=0, or give it more than one file")
        cause = f"the corpus has {total:,} bytes of text, less than twice as many"
        return Problem(fact, cause, f"{stage}.validation_bytes={max(1, total // 20)}, or give it more text")

    def _lay_out(self, survivors: Survivors, selection: Selection) -> Totals:
        """Epoch after epoch, so that the copies of a document never stand side by side."""
        totals = Totals()
        for epoch in range(1, max([1, *(quota.most for quota in selection.quotas.values())]) + 1):
            tasks = [
                Layout(part, survivors.folder, selection, epoch)
                for part in survivors.parts
                if epoch == 1 or (part.source in selection.quotas and selection.quotas[part.source].most >= epoch)
            ]
            with metered(self._context, "laying out", sum(task.part.bytes for task in tasks)) as meter:
                for task, plan in zip(tasks, self._crew.map(lay_out, tasks), strict=True):
                    totals.add(task.part.name, epoch, plan, self._config.shard_bytes)
                    meter.add(task.part.bytes, task.part.rows)
        if not totals.documents[TRAIN]:
            fact, stage = f"{self._context.name}.mixture takes no document", self._context.name
            cause = "the share of each source is smaller than its first document"
            raise UserError(Problem(fact, cause, f"{stage}.mixture.bytes=BYTES, more of them; null takes all it can"))
        return totals

    def _measure(self, survivors: Survivors, selection: Selection, *, holdout: bool) -> Any:
        totals = np.zeros(BUCKETS, np.int64)
        tasks = [Measure(part, survivors.folder, selection, holdout) for part in survivors.parts]
        with metered(self._context, "measuring", survivors.bytes) as meter:
            for task, sizes in zip(tasks, self._crew.map(measure, tasks), strict=True):
                totals += sizes
                meter.add(task.part.bytes, task.part.rows)
        return totals

    def _write_shards(self, survivors: Survivors, selection: Selection, totals: Totals) -> None:
        folder = self._context.work / "shards"
        folder.mkdir(exist_ok=True)
        tasks = [
            ShardTask(
                folder / shard_name(SPLITS[split], number, len(shards)),
                split,
                tuple(pieces),
                size,
                frozenset(content_of(totals.form)),
                survivors.folder,
                selection,
            )
            for split, shards in totals.shards.items()
            for number, (pieces, size) in enumerate(shards)
        ]
        missing = [task for task in tasks if not task.path.exists()]
        with metered(self._context, "writing", sum(task.size for task in missing)) as meter:
            for task, _ in zip(missing, self._crew.map(write_shard, missing), strict=True):
                meter.add(task.size, sum(piece.stop - piece.first for piece in task.pieces))
        for task in tasks:
            shutil.move(task.path, self._context.out / task.path.name)

    def _funnel(
        self, survivors: Survivors, totals: Totals, mixed: Mixed | None, selection: Selection
    ) -> dict[str, Any]:
        tallies = list(survivors.tallies)
        if self._config.max_bytes is not None:
            tallies.append(totals.dropped)
        read = survivors.read
        written = {name: own[TRAIN] for name, own in totals.sources.items()}
        return {
            **({"mixture": mixed.as_json(written)} if mixed else {}),
            "documents": _named(totals.documents),
            "bytes": _named(totals.bytes),
            "characters": _named(totals.characters),
            "sources": {
                name: {
                    **_both(totals.sources.get(name, {})),
                    "read": {key: own[key] for key in ("documents", "bytes", "repaired")},
                    **as_funnel(survivors.damaged.get(name)),
                }
                for name, own in read.items()
            },
            "filters": [tally.as_json() for tally in tallies],
            "validation": {
                "groups": len(totals.held),
                "wanted_bytes": self._config.validation_bytes,
                **({"by_document": True} if selection.by_document else {}),
            },
        }


def _both(splits: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    return {key: sum(own[key] for own in splits.values()) for key in ("documents", "bytes")}


def _named(totals: Mapping[int, int]) -> dict[str, int]:
    return {SPLITS[split]: number for split, number in totals.items()}


def _reasons(tally: Tally) -> str:
    reasons: Sequence[str] = [f"{number:,} {reason}" for reason, number in tally.dropped.most_common(3)]
    return f" ({', '.join(reasons)})" if reasons else ""
