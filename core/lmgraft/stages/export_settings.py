"""Settings of the kind of stage ``export``: strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraft import languages
from lmgraft.component import StageConfig, from_stage, slot
from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["ExportStage"]


@dataclass
class ExportStage(StageConfig):
    """Writes a model in the format in which it leaves: a Hugging Face folder with a model card, a GGUF file."""

    artifact: ClassVar[str] = "export"

    exporter: Any = slot("exporter")
    """The format."""
    model: str = from_stage("model", default="pretrain")
    """The model that leaves."""
    scores: list[str] = from_stage("scores", default=[], optional=True)
    """Evaluate stages whose scores of this model are told in its card."""
    name: str | None = None
    """What to call the model; null takes the recipe's name."""
    license: str | None = None
    """The model's licence, best an SPDX identifier (``apache-2.0``); null: the files say that it is not known."""
    languages: list[str] = field(default_factory=list)
    """The model's languages as codes of ISO 639: ``[en, de]``; ``multilingual`` and ``code`` are the hub's own."""
    licenses: dict[str, str] = field(default_factory=dict)
    """Licences of data sources, by the names that the recipe gives these; a source whose author tells one needs none
    here."""

    def check(self) -> Iterator[str]:
        for key in ("name", "license"):
            value = getattr(self, key)
            if value is not None and (not value.strip() or "\n" in value):
                yield f"{key} is {value!r}; it is one line of text, or null"
        for code in self.languages:
            found = languages.wrong(code)
            if found is not None:
                yield f"languages holds {code!r}; {found[0]}"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """A licence for a source that is not there would be told to nobody."""
        sources = {
            use.slot.partition(".")[2] for above in recipe.upstream(stage) for use in above.parts
            if use.seam == "data_source"
        }  # fmt: skip
        for name in self.licenses:
            if name not in sources:
                cause = f"the sources of its model are {', '.join(sorted(sources)) or 'none'}"
                remedy = f"take {name} out of {stage}.licenses"
                yield Problem(f"{stage}.licenses names {name!r}, which is no source", cause, remedy)
