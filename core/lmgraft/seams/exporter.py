"""Door ``exporter``: how a model leaves. Beside ``architecture``.

Rules
- Reads a Hugging Face model folder (safetensors, config.json, tokenizer files) and writes under ``out`` only.
- The same folder and the same facts give the same bytes: no clock, no path.
- A model that the format cannot hold is refused with a :class:`lmgraft.errors.UserError`, before anything is written.
- An exporter that also tells of the model (a card, a title, a licence) is an :class:`InformedExporter`: it gets what
  core knows (:class:`Known`). Facts are told as they are; what is not known is said to be unknown, never guessed.

The stage ``export`` has a slot for one, and ``lmgraft export FORMAT MODEL OUT`` calls one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

__all__ = ["Exporter", "ExporterConfig", "InformedExporter", "Known", "KnownSource", "KnownStage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStage:
    """A stage that the model comes from."""

    name: str
    """Its name in the recipe."""
    kind: str
    """``corpus``, ``train`` ..."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that decide what comes out, as plain data; nothing secret, no place on a machine."""
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Slot -> the part's ``name`` and its settings, alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSource:
    """Where documents came from."""

    name: str
    """As the recipe calls it."""
    part: str
    """The data source part."""
    dataset: str = ""
    """``org/name`` of a data set of the Hugging Face hub."""
    license: str = ""
    """As the user or the part's author tells it, best an SPDX identifier; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a model. Everything may be empty. Nothing secret is in it, and no place on a machine."""

    name: str = ""
    """What to call the model."""
    license: str = ""
    """The model's own, as the user tells it; empty: not known."""
    languages: tuple[str, ...] = ()
    """Codes (``en``, ``de``), as the user tells them."""
    recipe: str = ""
    """The recipe's name."""
    stages: tuple[KnownStage, ...] = ()
    """In the order of work, ending with the one that made the model."""
    sources: tuple[KnownSource, ...] = ()
    """All that any of the stages read."""
    scores: tuple[Mapping[str, Any], ...] = ()
    """Of this model and of references beside it: records of :class:`lmgraft.artifacts.scores.ScoreRow`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Distribution -> version, where a run says what it ran with; a stage's artifact does not depend on them, so it is
    told none."""


@runtime_checkable
class Exporter(Protocol):
    """The part: writes a model in another format."""

    def export(self, model: Path, out: Path) -> None:
        """Turns a Hugging Face model folder into files under ``out``, an empty folder that is there."""
        ...


@runtime_checkable
class InformedExporter(Exporter, Protocol):
    """An exporter that also tells of the model, and how far it is. The method is optional."""

    def export_informed(self, model: Path, out: Path, known: Known, progress: Callable[[int, int], None] = ...) -> None:
        """Called instead of ``export``: the same files, with what is known told in them.

        ``known`` holds the facts that the part's settings ask for (:attr:`ExporterConfig.asks`), the others are empty.
        ``progress(bytes done, bytes in all)`` is called after each tensor; it raises where the work must stop.
        """
        ...


class ExporterConfig(Protocol):
    """What an exporter's *settings* may have beside their fields. Optional."""

    asks: ClassVar[tuple[str, ...]]
    """For an :class:`InformedExporter`: the fields of :class:`Known` that show in its files, by name. A stage's key
    holds these facts and no others, so that what an exporter does not tell cannot make it work anew. A class attribute
    of the config."""
