"""The version of lmgraft and of each seam's protocol."""

from __future__ import annotations

from importlib import metadata

__all__ = ["DOORS", "MANY", "SEAMS", "SEAM_API", "installed"]

#: The seven seams, in the order a model meets them.
SEAMS = ("data_source", "filter", "tokenizer", "architecture", "parallelism", "objective", "evaluator")
#: The doors beside them.
DOORS = ("initializer", "merge", "exporter", "optimizer", "schedule", "teacher", "stage", "lifecycle")
#: Seams of which a recipe takes several, in order: their parts come wrapped under their own names.
MANY = frozenset({"data_source", "filter", "evaluator", "lifecycle"})
#: seam -> (oldest, newest) version of its protocol that this core speaks.
SEAM_API: dict[str, tuple[int, int]] = dict.fromkeys((*SEAMS, *DOORS), (1, 1))


def installed() -> str:
    """The installed distribution's version."""
    return metadata.version("lmgraft")
