"""The rows of a train stage, of a corpus or encoded before: laying them out, its loader, its held-out rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from lmgraft.errors import Problem
from lmgraft.stages.train_settings import Overlong, Packing

if TYPE_CHECKING:
    from typing import Any

    from lmgraft.artifacts import Artifact
    from lmgraft.seams.stage import StageContext
    from lmgraft.stages._job import Job
    from lmgraft.training.examples import ExampleLoader
    from lmgraft.training.validation import HeldOut

__all__ = ["corpus_of", "encoded_otherwise", "lay_out", "loader", "validation"]


def corpus_of(data: Artifact) -> str:
    """The digest of the corpus that rows come from: a reference's rows are known by it, whoever encoded them."""
    from lmgraft.artifacts import examples

    return examples.info(data.path).corpus if examples.is_rows(data.path) else data.digest


def encoded_otherwise(context: StageContext, data: Artifact) -> Iterator[Problem]:
    """Rows that another objective made, or this one with other settings, so that these would not hold.

    The recipe's own check says this before anything runs; here it is the artifact that is asked, which may come from
    another version of the objective (``--accept-drift``).
    """
    from lmgraft.artifacts import examples
    from lmgraft.stages._encode_rows import encoded_by

    if data.kind != "tokens" or not examples.is_rows(data.path):
        return
    component, config = context.component("objective")
    made, own = examples.info(data.path).objective, encoded_by(component, config)
    if made == own:
        return
    fact = f"stage {context.name}: the rows of {data.stage} were not encoded by its objective"
    if made.part != own.part:
        cause = f"{made.part} made them, and {context.name} trains {own.part}"
    elif made.settings != own.settings:
        cause = f"{made.part} made them with {_listed(made.settings)}, and here it has {_listed(own.settings)}"
    else:
        cause = f"another version of {made.part} made them"
    yield Problem(fact, cause, f"give both stages the same objective and settings, and run {data.stage} again")


def lay_out(context: StageContext, job: Job) -> None:
    """Every split, once, as a file that ranks map; tells what was left out and how full packed sequences are."""
    from lmgraft.artifacts import corpus, tokenizer
    from lmgraft.training.laying import Encoding, encode

    data, settings = context.inputs["data"][0].path, job.settings
    references = context.inputs.get("reference") or []
    for split in corpus.splits(data):
        how = Encoding(
            corpus=data,
            split=split,
            objective=job.part("objective"),
            tokenizer=tokenizer.load(job.tokenizer),
            seq_len=settings.seq_len,
            stage=context.name,
            refuse_overlong=settings.overlong is Overlong.refuse,
            reference=references[0].path if references else None,
        )
        found = encode(how, job.rows(split), lambda title, total: context.progress(title, total, "rows"))
        left = [f"{found.overlong} longer than seq_len={how.seq_len}"] if found.overlong else []
        left += [f"{found.empty} without anything to learn"] if found.empty else []
        out = f"; left out: {', '.join(left)}" if left else ""
        context.note(f"{split}: {found.units:,} rows, {found.tokens:,} tokens{out}")
        row = {"split": split, "rows": found.units, "overlong": found.overlong, "empty": found.empty}
        context.emit(row | (_fullness(context, job) if split == "train" and _packs(job) else {}))


def _fullness(context: StageContext, job: Job) -> dict[str, Any]:
    """How much of the packed sequences is no padding, and how much it would be without packing."""
    from lmgraft.training.packing import PackedExamples, filled_unpacked

    settings = job.settings
    packed = PackedExamples(_examples(job, "train"), settings.seq_len)
    before = filled_unpacked(packed.examples, settings.batch, settings.micro_batch, job.seed)
    context.note(
        f"packed into {len(packed):,} sequences of {settings.seq_len}, {packed.filled:.1%} full; "
        f"one row a sequence would be {before:.1%} full"
    )
    return {"sequences": len(packed), "filled": round(packed.filled, 6), "filled_unpacked": round(before, 6)}


def loader(job: Job) -> ExampleLoader:
    """Batches of units; with packing, of sequences that several rows share."""
    from lmgraft.training.examples import ExampleLoader
    from lmgraft.training.packing import PackedExamples

    settings, examples = job.settings, _examples(job, "train")
    shuffled = PackedExamples(examples, settings.seq_len) if _packs(job) else examples
    return ExampleLoader(shuffled, settings.batch, job.seed)


def validation(job: Job) -> HeldOut | None:
    """The objective on held-out rows; None where there are none. Packed, it is asked of the same rows, and its sums are
    the same: only the positions that would be padding are not computed."""
    from lmgraft.training.packing import PackedExamples
    from lmgraft.training.validation import RowValidation

    if not job.rows("validation").is_file():
        return None
    settings, examples = job.settings, _examples(job, "validation")
    width = settings.micro_batch or settings.batch
    if _packs(job):
        packed = PackedExamples(examples, settings.seq_len, examples.spread(settings.validation_tokens))
        return RowValidation(partial(packed.some, width), job.part("objective"))
    return RowValidation(partial(examples.some, width, settings.validation_tokens), job.part("objective"))


def _examples(job: Job, split: str) -> Any:
    from lmgraft.artifacts import tokenizer
    from lmgraft.training.examples import Examples

    return Examples(job.rows(split), tokenizer.load(job.tokenizer).pad_id)


def _packs(job: Job) -> bool:
    return job.settings.packing is Packing.best_fit


def _listed(settings: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "no settings"
