"""The kind of stage ``score``: a model's summed log-probability of every sequence that an objective makes of a corpus,
or has made of it in a tokens stage.

Each data rank of the layout scores every so many units and writes what it found to a file of its own; the parent puts
them together in the order of the corpus. The files stand until the stage is whole, so a stage that was killed scores
only what is still open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact
from lmgraft.devices import resolve_precision
from lmgraft.errors import Problem, UserError
from lmgraft.stages._rows import corpus_of, encoded_otherwise
from lmgraft.stages.plugin import ScoreStage
from lmgraft.training.events import Events, FileEvents, Follower, NoEvents

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.objective import Batch
    from lmgraft.seams.parallelism import Engine, EnginePlan
    from lmgraft.seams.stage import StageContext

__all__ = ["ScoreRows", "Scoring", "work"]

#: Units that are scored between two files, over all ranks.
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Scoring:
    """What every rank needs in order to do its part: plain data, picklable."""

    model: Path
    rows: Path
    """The encoded rows of one split."""
    found: Path
    """The folder for what was found."""
    units: int
    pad_id: int
    micro_batch: int
    device: str
    precision: str
    seed: int


class ScoreRows:
    """Satisfies :class:`lmgraft.seams.stage.Stage`; see :class:`~lmgraft.stages.plugin.ScoreStage` for its settings."""

    artifact = "reference"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, ScoreStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        return {"precision": self._precision(context)}

    def run(self, context: StageContext) -> None:
        from lmgraft.artifacts import corpus, reference, tokenizer

        model, data = context.inputs["model"][0], context.inputs["data"][0]
        saved = tokenizer.load(model.path)
        problems = [*encoded_otherwise(context, data), *_other_tokenizer(context, data, saved.fingerprint())]
        if problems:
            raise UserError(problems)
        counts = {split: self._split(context, split, saved) for split in corpus.splits(data.path)}
        reference.ReferenceInfo(saved.fingerprint(), corpus_of(data), counts).write(context.out)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        from lmgraft.artifacts import reference

        for split, count in reference.info(artifact.path).rows.items():
            yield f"{split} sequences", f"{count:,}"

    def _precision(self, context: StageContext) -> str:
        return resolve_precision(self.config.precision.value, context.device)

    def _split(self, context: StageContext, split: str, saved: Any) -> int:
        """Encodes and scores one split; gives its number of rows."""
        from lmgraft.loading import architecture_for
        from lmgraft.training.laying import Encoding, encode

        model, data = context.inputs["model"][0].path, context.inputs["data"][0].path
        rows, found = context.work / f"{split}.arrow", context.work / split
        longest = architecture_for(model).context()
        how = Encoding(
            corpus=data, split=split, objective=context.part("objective"), tokenizer=saved, seq_len=longest,
            stage=context.name, scoring=True,
        )  # fmt: skip
        told = encode(how, rows, lambda title, total: context.progress(title, total, "rows"))
        if told.overlong:
            context.note(
                f"{split}: longer than the model's context and not scored: {told.overlong:,} of {told.units:,}"
            )
        found.mkdir(exist_ok=True)
        job = Scoring(
            model=model, rows=rows, found=found, units=told.units, pad_id=saved.pad_id,
            micro_batch=self.config.micro_batch, device=context.device, precision=self._precision(context),
            seed=context.seed,
        )  # fmt: skip
        with (
            context.progress(f"scoring {split} rows", told.units, "rows") as bar,
            Follower(context, found, bar, found),
        ):
            context.part("parallelism").launch(partial(work, job))
        return _write(job, longest, context.out / f"{split}.parquet")


def _other_tokenizer(context: StageContext, data: Artifact, fingerprint: str) -> Iterator[Problem]:
    """Rows that were encoded before, by another tokenizer than the model's."""
    from lmgraft.artifacts import examples

    if examples.is_rows(data.path) and examples.info(data.path).fingerprint != fingerprint:
        model = context.inputs["model"][0].stage
        fact = f"stage {context.name}: model={model} and data={data.stage} have different vocabularies"
        cause = "the rows were encoded by another tokenizer than the model's, and the same ids stand for other text"
        yield Problem(fact, cause, f"{data.stage}.tokenizer={model}")


def work(job: Scoring, make_engine: Callable[[EnginePlan], Engine]) -> None:
    """What a rank does: scores its share of each chunk of units that is not known yet."""
    import numpy as np

    from lmgraft.loading import architecture_for, vocab_size
    from lmgraft.seams.parallelism import EnginePlan
    from lmgraft.training.examples import Examples, share

    architecture = architecture_for(job.model)
    engine = make_engine(
        EnginePlan(
            architecture=architecture,
            vocab_size=vocab_size(job.model),
            device=job.device,
            precision=job.precision,
            seed=job.seed,
            weights=job.model,
        )
    )
    events: Events = FileEvents(job.found) if engine.main else NoEvents(job.found)
    events.begin(0)
    examples = Examples(job.rows, job.pad_id)
    rank, size = engine.data
    longest = architecture.context()
    for start in range(0, job.units, CHUNK):
        out = _part(job, start, rank, size)
        # A chunk of which one rank's file is missing is scored by all: collectives need them all.
        if not engine.agree(not out.is_file()):
            continue
        fits = _fitting(examples, np.arange(start, min(start + CHUNK, job.units)), longest)
        mine = share(fits, rank, size)
        batches = [mine[first : first + job.micro_batch] for first in range(0, len(mine), job.micro_batch)]
        sums: dict[int, float] = {}
        scored = engine.score(_batches(examples, batches, events, start, size), frozenset({"logprob"}))
        for units, (batch, outputs) in zip(batches, scored, strict=True):
            _collect(examples, units, batch, outputs.logprob, sums)
        _save(out, sums)
    events.progress(job.units, {})


def _fitting(examples: Any, units: Any, longest: int) -> Any:
    """Units none of whose sequences is longer than the model's context."""
    keep = [
        unit
        for unit in units.tolist()
        if examples.lengths[examples.starts[unit] : examples.starts[unit + 1]].max() - 1 <= longest
    ]
    return units[:0] if not keep else units[[unit - int(units[0]) for unit in keep]]


def _batches(examples: Any, batches: list[Any], events: Events, start: int, size: int) -> Iterator[Batch]:
    done = start
    for units in batches:
        events.alive()
        yield examples.batch(units)
        done += len(units) * size
        events.progress(done, {})


def _collect(examples: Any, units: Any, batch: Batch, logprob: Any, sums: dict[int, float]) -> None:
    """Sequence -> sum of weight * log-probability, summed in float64."""
    from lmgraft.training.loader import NOTHING

    assert logprob is not None, "an engine answers what it is asked"
    weighted = logprob.double() * batch.weights.double() * (batch.targets >= 0)
    totals = iter(weighted.sum(1).tolist())
    for unit in units.tolist():
        if unit == NOTHING:
            next(totals)
            continue
        for sequence in range(int(examples.starts[unit]), int(examples.starts[unit + 1])):
            sums[sequence] = next(totals)


def _part(job: Scoring, start: int, rank: int, size: int) -> Path:
    return job.found / f"{start:012d}-{rank:05d}-of-{size:05d}.npz"


def _save(path: Path, sums: dict[int, float]) -> None:
    """Tensor and pipeline peers write the same bytes, each whole: whoever is last wins nothing."""
    import os

    import numpy as np

    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    with partial_path.open("wb") as file:
        np.savez(file, sequence=np.array(list(sums), np.int64), logprob=np.array(list(sums.values()), np.float64))
    partial_path.replace(path)


def _write(job: Scoring, longest: int, out: Path) -> int:
    """All ranks' sums in the order of the corpus. A later attempt under another number of ranks may have scored a
    sequence again, to the same digits or to the last but few; the first file by name counts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lmgraft.artifacts import reference
    from lmgraft.training.examples import Examples

    examples = Examples(job.rows, job.pad_id)
    sums = np.full(len(examples.lengths), np.nan)
    for path in sorted(job.found.glob("[0-9]*.npz"), reverse=True):
        with np.load(path, allow_pickle=False) as held:
            sums[held["sequence"]] = held["logprob"]
    with pq.ParquetWriter(out, reference.SCHEMA, compression="zstd") as writer:
        for start in range(0, len(sums), 8192):
            numbers = range(start, min(start + 8192, len(sums)))
            pairs = [examples.sequence(number)[:2] for number in numbers]
            columns = [
                [examples.document(number) for number in numbers],
                [int(examples.roles[number]) for number in numbers],
                [reference.digest(*pair) for pair in pairs],
                [None if np.isnan(sums[number]) else float(sums[number]) for number in numbers],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, reference.SCHEMA, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=reference.SCHEMA))
    return len(sums)
