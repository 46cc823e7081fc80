"""The packed tokens of a train stage, one source or a mixture: its loader, its held-out text, what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.artifacts.tokens import TokensInfo
    from lmgraft.seams.stage import StageContext
    from lmgraft.stages._job import Job
    from lmgraft.training.loader import Loader, MixedLoader
    from lmgraft.training.validation import HeldOut

__all__ = ["loader", "problems", "sources", "tell", "validation"]


def sources(job: Job) -> dict[str, Path]:
    """Stage -> folder of packed tokens, in the recipe's order; those of weight 0 are left out."""
    assert job.tokens is not None, "asked only where the data are packed"
    weights = job.settings.data_weights
    folders = {job.settings.data: job.tokens, **job.more_tokens}
    return {stage: folder for stage, folder in folders.items() if not weights or weights[stage]}


def loader(job: Job) -> Loader | MixedLoader:
    """:raises UserError: a file is missing or damaged."""
    from lmgraft.training.blend import Blend
    from lmgraft.training.loader import Loader, MixedLoader, PackedDataset

    settings, found = job.settings, sources(job)
    datasets = [PackedDataset(folder, "train", settings.seq_len) for folder in found.values()]
    if len(datasets) == 1:
        return Loader(datasets[0], settings.batch, job.seed)
    weights = [settings.data_weights[stage] for stage in found] if settings.data_weights else list(map(len, datasets))
    return MixedLoader(datasets, Blend(weights, job.seed), settings.batch, job.seed)


def validation(job: Job) -> HeldOut | None:
    """Held-out loss of every source that holds text out, over all in proportion to their tokens; None: none does."""
    from lmgraft.artifacts import tokenizer, tokens
    from lmgraft.training.loader import PackedDataset, validation_batches
    from lmgraft.training.validation import MixedValidation, Validation

    settings, found = job.settings, sources(job)
    splits = {stage: tokens.info(folder).splits.get("validation") for stage, folder in found.items()}
    held = {stage: split.tokens for stage, split in splits.items() if split is not None and split.tokens}
    if not held:
        return None
    token_bytes = tokenizer.load(job.tokenizer).token_bytes()
    scored = {}
    for stage, count in held.items():
        dataset = PackedDataset(found[stage], "validation", settings.seq_len)
        limit = settings.validation_tokens * count // sum(held.values())
        batches = partial(validation_batches, dataset, settings.micro_batch or settings.batch, max(1, limit))
        scored[stage] = Validation(batches, token_bytes)
    return MixedValidation(scored, held) if len(found) > 1 else next(iter(scored.values()))


def problems(name: str, job: Job) -> Iterator[Problem]:
    """Sources of different tokenizers, and too little text for one step; ``name`` is the train stage's."""
    from lmgraft.artifacts import tokens

    settings, found = job.settings, sources(job)
    held = {stage: tokens.info(folder) for stage, folder in found.items()}
    assert job.tokens is not None, "asked only where the data are packed"
    # The model's vocabulary is that of ``data``, which may have the weight 0.
    first, own = settings.data, tokens.info(job.tokens)
    for stage, told in held.items():
        if _vocabulary(told) != _vocabulary(own):
            fact = f"stage {name}: {first} and {stage} are encoded by different tokenizers"
            cause = "what is mixed must have one vocabulary; the same ids stand for different text there"
            yield Problem(fact, cause, f"give {stage} the tokenizer of {first}: {stage}.tokenizer=STAGE")
    count = sum(told.splits["train"].tokens for told in held.values() if "train" in told.splits)
    need = settings.batch * settings.seq_len
    if count < need:
        whose = f"split of {next(iter(held))} holds" if len(held) == 1 else f"splits of {', '.join(held)} hold"
        yield Problem(
            f"stage {name}: the training {whose} {count:,} tokens",
            f"one step takes batch * seq_len = {settings.batch} * {settings.seq_len} = {need:,} tokens",
            f"lower {name}.batch or {name}.seq_len, or give the corpus more text",
        )


def tell(context: StageContext, job: Job) -> None:
    """Of a mixture: how often each source will be seen, to the person who waits and in a row each."""
    from lmgraft.training.loader import MixedLoader

    mixed = loader(job)
    if not isinstance(mixed, MixedLoader):
        return
    steps, weights = job.settings.steps, job.settings.data_weights
    total = sum(weights.values())
    if weights and round(total, 9) not in (1, 100):
        context.note(f"data_weights add up to {total:g}, not to 1; each counts as its share of {total:g}")
    rows = zip(
        sources(job), mixed.blend.shares, mixed.blend.counts(steps * mixed.batch), mixed.epochs(steps), strict=True
    )
    told = []
    for stage, share, count, times in rows:
        context.emit({"source": stage, "share": round(share, 6), "samples": count, "epochs": round(times, 4)})
        told.append(f"{stage} {share:.1%} of the samples ({times:.2f} epochs)")
    context.note(f"mixture: {', '.join(told)}")


def _vocabulary(told: TokensInfo) -> tuple[str, int, int, int]:
    return told.fingerprint, told.first_id, told.end_id, told.pad_id
