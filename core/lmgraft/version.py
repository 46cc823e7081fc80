"""The version of lmgraft and of each seam's protocol, and what is on its way out. The policy: docs/versions.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

__all__ = [
    "ADDED",
    "DEPRECATED",
    "DOORS",
    "GROUPS",
    "LAYERS",
    "MANY",
    "SEAMS",
    "SEAM_API",
    "Added",
    "Deprecated",
    "installed",
    "place",
    "several",
    "spoken",
]

#: The seven seams, in the order a model meets them.
SEAMS = ("data_source", "filter", "tokenizer", "architecture", "parallelism", "objective", "evaluator")
#: The doors beside them.
DOORS = ("initializer", "adapter", "merge", "exporter", "optimizer", "schedule", "teacher", "stage", "lifecycle")
#: Entry-point groups ``lmgraft.GROUP`` that name no part: packages of recipes, modules of conformance suites.
GROUPS = ("recipes", "testing")
#: Seams of which a recipe takes several, in order: each stands under its part's name, or under a key of its own.
MANY = frozenset({"data_source", "filter", "evaluator", "lifecycle"})
#: seam -> (oldest, newest) version of its protocol that this core speaks.
SEAM_API: dict[str, tuple[int, int]] = {
    **dict.fromkeys((*SEAMS, *DOORS), (1, 1)),
    "lifecycle": (1, 2),
    "parallelism": (1, 2),
}
#: The API of the parallelism seam that brought ``EnginePlan.trainable_layers``. Older layouts would train all layers.
LAYERS = 2


@dataclass(frozen=True, slots=True)
class Added:
    """An argument that a hook got after it was first released."""

    seam: str
    hook: str
    argument: str
    since: int
    """The API of the seam that brought it; a part that takes it says so by ``api``."""


@dataclass(frozen=True, slots=True)
class Deprecated:
    """An argument of a hook that will go."""

    seam: str
    hook: str
    argument: str
    since: int
    goes: int
    """The API of the seam that will be without it."""
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.hook}'s argument {self.argument} is deprecated since API {self.since} of the {place(self.seam)} and"
            f" goes with API {self.goes}; {self.remedy}"
        )


ADDED = (Added("lifecycle", "lmgraft_stage_end", "outcome", since=2),)
#: One line a deprecation: pluggy is told by the specification, and ``lmgraft plugins why`` tells the plugin's author.
DEPRECATED = (Deprecated("lifecycle", "lmgraft_stage_end", "status", since=2, goes=3, remedy="take outcome.status"),)


@lru_cache(maxsize=1)
def installed() -> str:
    """The installed distribution's version."""
    return metadata.version("lmgraft")


def place(seam: str) -> str:
    """``filter seam``, ``lifecycle door``."""
    return f"{seam} {'door' if seam in DOORS else 'seam'}"


def several(seam: str, where: str) -> bool:
    """Whether a place of a recipe takes a list of parts: ``corpus.filters`` does, ``corpus.filters.mine`` is one's."""
    return seam in MANY and where.count(".") < (1 if seam == "lifecycle" else 2)


def spoken(seam: str) -> str:
    """The versions of a seam's protocol that this core speaks: ``1``, ``1 to 2``."""
    oldest, newest = SEAM_API[seam]
    return f"{oldest}" if oldest == newest else f"{oldest} to {newest}"
