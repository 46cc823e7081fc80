"""What a train stage reads: the loader of its batches, and its held-out text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lmgraft.stages import _packed

if TYPE_CHECKING:
    from lmgraft.stages.train import Job
    from lmgraft.training.loop import Batches
    from lmgraft.training.validation import HeldOut

__all__ = ["loader", "validation"]


def loader(job: Job) -> Batches:
    from lmgraft.artifacts import tokenizer
    from lmgraft.training.examples import ExampleLoader, Examples

    settings = job.settings
    if job.tokens is not None:
        return _packed.loader(job)
    examples = Examples(job.rows("train"), tokenizer.load(job.tokenizer).pad_id)
    return ExampleLoader(examples, settings.batch, job.seed)


def validation(job: Job) -> HeldOut | None:
    """Held-out loss, where the data hold a validation split and the settings ask for it."""
    from lmgraft.artifacts import tokenizer
    from lmgraft.training.examples import Examples
    from lmgraft.training.validation import RowValidation

    settings = job.settings
    if not settings.validation_tokens:
        return None
    if job.tokens is not None:
        return _packed.validation(job)
    if not job.rows("validation").is_file():
        return None
    examples = Examples(job.rows("validation"), tokenizer.load(job.tokenizer).pad_id)
    batches = partial(examples.some, settings.micro_batch or settings.batch, settings.validation_tokens)
    return RowValidation(batches, job.part("objective"))
