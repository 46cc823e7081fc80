"""Settings of first_of_title."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl


class Preference(enum.Enum):
    """Which documents of a title stay."""

    FIRST = "first"
    LONGEST = "longest"
    HIGHEST = "highest"


@dataclass
class FirstOfTitleSettings(ComponentConfig):
    """What a title is, and which of its documents stay."""

    key: str = "title"
    """The key of a document's meta that holds its title; documents without it are kept."""

    keep: int = 1
    """Documents of each title that stay at most."""

    prefer: Preference = Preference.FIRST
    """FIRST in the corpus; LONGEST in bytes; HIGHEST by the number under the key `score`."""

    score: Optional[str] = None  # noqa: UP045
    """The key of a document's meta that holds a number, for HIGHEST; without a number a document comes last."""

    fold: bool = False
    """Whether upper and lower case, and white space at the ends, are the same title."""

    def check(self) -> Iterator[str]:
        if self.keep < 1:
            yield f"keep is {self.keep}; at least one document of each title stays"
        if not self.key:
            yield "key is empty; it names the key of the title"
        if (self.prefer is Preference.HIGHEST) != (self.score is not None):
            yield f"score is {self.score!r} with prefer {self.prefer.name}; HIGHEST needs one, the others take none"


@hookimpl
def lmgraft_filter() -> list[Component]:
    return [
        Component(
            name="first_of_title",
            target="first_of_title.sieve:TitleSieve",
            config=FirstOfTitleSettings,
            summary="Keeps few documents of each title",
            variants=("longest",),
        ),
    ]
