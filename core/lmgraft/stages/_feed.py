"""What a train stage reads: the loader of its batches, and its held-out text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmgraft.stages import _packed, _rows

if TYPE_CHECKING:
    from lmgraft.stages._job import Job
    from lmgraft.training.loop import Batches
    from lmgraft.training.validation import HeldOut

__all__ = ["loader", "validation"]


def loader(job: Job) -> Batches:
    return _rows.loader(job) if job.tokens is None else _packed.loader(job)


def validation(job: Job) -> HeldOut | None:
    """Held-out loss, where the data hold a validation split and the settings ask for it."""
    if not job.settings.validation_tokens:
        return None
    return _rows.validation(job) if job.tokens is None else _packed.validation(job)
