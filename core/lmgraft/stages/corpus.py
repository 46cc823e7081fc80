"""Stage ``corpus``: sources through filters to Parquet shards, with a funnel.

The funnel, ``funnel.json``, has these keys:

- ``documents``, ``bytes`` (UTF-8) and ``characters`` of text: split -> number, as written.
- ``sources``: name -> ``documents`` and ``bytes`` as written, and ``read``: the same as the source gave them, with
  ``repaired``, the documents in which surrogate halves that UTF-8 cannot hold were paired or replaced by U+FFFD.
- ``filters``: in order, for each ``name``, ``seen``, ``kept`` (the rewritten included), ``rewritten``, ``dropped``
  (reason -> number), ``sample``, the first three of the dropped for each of the first twelve reasons: ``id``,
  ``reason``, ``text`` (300 characters); ``counts``, what its verdicts counted in documents, dropped or not, and
  ``noted``, the first five of which it said something: ``id``, ``note``.
  Where ``max_bytes`` is set it stands last, as if it were a filter.
- ``sources``: name -> with ``corrupt: quarantine`` also ``damaged`` (reason -> number), ``damaged_bytes`` (as far as
  known), ``cut_short`` (units whose rest is lost) and ``damaged_sample``; ``quarantine.jsonl`` holds the first thousand
  (:mod:`lmgraft.stages._corpus_damage`). What ``damaged`` counts is not among ``read``.
- ``validation``: ``groups`` held out and ``wanted_bytes``, the setting; ``by_document: true`` where all text is of one
  group, whose documents are held out one by one.
- ``mixture``, where ``mixture.weights`` is set: ``unit`` (``bytes`` or ``documents``, what is shared out), ``total``,
  ``weights`` (their sum as given) and ``sources``, name -> ``weight``, ``had`` (``documents`` and ``bytes`` before),
  ``wanted`` and ``wanted_share``, ``documents`` and ``bytes`` as written to the training split, repeats counted,
  ``share`` and ``epochs``, as they came out. Beside a printed table also ``printed_epochs``, ``table_epochs`` and
  ``table_range`` (what its rounded numbers give, and could) and ``why`` ours are not the printed ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.artifacts import corpus as files
from lmgraft.component import StageConfig
from lmgraft.errors import Problem, UserError
from lmgraft.keyed import keyed
from lmgraft.seams.data_source import Unit
from lmgraft.seams.filter import FittedFilter
from lmgraft.seams.stage import StageContext
from lmgraft.stages._corpus_crew import Crew, Workshop
from lmgraft.stages._corpus_damage import QUARANTINE, reasons
from lmgraft.stages._corpus_pipeline import Pipeline
from lmgraft.stages._corpus_publish import Publisher
from lmgraft.stages._corpus_typed import typed
from lmgraft.stages._corpus_units import active_sources, cut, inputs_digest, source_digest, unit_size
from lmgraft.stages.plugin import CorpusStage, Corrupt

__all__ = ["Corpus"]

SMALL_BYTES = 8 << 20
"""Below this, starting processes may cost more than they save: the first tasks are done without them."""
PATIENCE = 2.0
"""Seconds of such work after which processes are started for the rest."""


class Corpus:
    artifact = "corpus"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, CorpusStage)
        self._config = config
        self._units: dict[str, list[Unit]] | None = None

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """One sha256 for each source that is read, over its units' ids, ranges and contents; the same for the files
        that filters learn from."""
        units = self._listed(context)
        found: dict[str, Any] = {
            "sources": {name: source_digest(context, name, own) for name, own in units.items()},
        }
        learnt = {
            name: inputs_digest(context, name, part.inputs())
            for name, part in context.parts("filters").items()
            if isinstance(part, FittedFilter)
        }
        return {**found, "learnt": learnt} if learnt else found

    def run(self, context: StageContext) -> None:
        units = self._listed(context)
        reads = cut(units)
        filters = list(self._config.filters)
        paths = [*(f"sources.{name}" for name in units), *(f"filters.{name}" for name in filters)]
        parts = {path: context.component(path) for path in paths}
        with typed(context.name, parts):
            fits = _fitted(context, filters)
            workshop = Workshop(context.part, fits, context.alive)
            with self._crew(context, workshop, parts, fits, units) as crew:
                quarantine = self._config.corrupt is Corrupt.quarantine
                survivors = Pipeline(context, crew, filters, self._config.memory_mb, quarantine).run(reads)
                Publisher(context, self._config, crew).publish(survivors)
        if survivors.damaged:
            shutil.copyfile(context.work / QUARANTINE, context.out / QUARANTINE)
        for name, own in survivors.damaged.items():
            told = reasons(own["reasons"])
            context.note(f"warning: {context.name}.sources.{name}: passed over {told} ({QUARANTINE})")

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        told = files.funnel(artifact.path)
        read = sum(source["read"]["documents"] for source in told["sources"].values())
        mixed = told.get("mixture")
        kept = sum(told["documents"].values())
        if mixed:  # it may write more than was read
            kept = told["filters"][-1]["kept"] if told["filters"] else read
        yield "documents", f"{kept:,} kept of {read:,}"
        for row in told["filters"]:
            if row["dropped"]:
                yield f"dropped by {row['name']}", reasons(row["dropped"])
        for name, source in told["sources"].items():
            if source.get("damaged"):
                units = f"{source['cut_short']:,} {'file or range' if source['cut_short'] == 1 else 'files or ranges'}"
                cut = f"; the rest of {units} is lost" if source["cut_short"] else ""
                yield f"damaged in {name}", f"{reasons(source['damaged'])} ({QUARANTINE}{cut})"
        yield from _mixed(mixed) if mixed else ()
        yield "text", _size(sum(told["bytes"].values()))
        if told["documents"]["validation"]:
            groups = told["validation"]["groups"]
            yield "held out", f"{_size(told['bytes']['validation'])} in {groups:,} group{'s' if groups > 1 else ''}"

    def _listed(self, context: StageContext) -> dict[str, list[Unit]]:
        """Active source -> its units. Listed once: the key and the work must speak of the same."""
        if self._units is None:
            names = active_sources(context, self._config)
            listed: dict[str, list[Unit]] = {}
            for name in names:
                with keyed("data_source", f"{context.name}.sources.{name}"):
                    listed[name] = context.part(f"sources.{name}").units()
            for name, units in listed.items():
                if not units:
                    fact = f"{context.name}.sources.{name} has nothing to read"
                    raise UserError(Problem(fact, "it found no files", f"check {context.name}.sources.{name}"))
            self._units = listed
        return self._units

    def _crew(
        self,
        context: StageContext,
        workshop: Workshop,
        parts: Mapping[str, Any],
        fits: Mapping[str, Path],
        units: Mapping[str, list[Unit]],
    ) -> Crew:
        every = [unit for own in units.values() for unit in own]
        known = all(unit.path is not None or unit_size(unit) for unit in every)
        small = known and sum(map(unit_size, every)) < SMALL_BYTES
        return Crew(
            workshop,
            parts,
            fits,
            self._config.workers or os.cpu_count() or 1,
            context.name,
            executor=self._config.executor,
            scratch=context.work,
            patience=PATIENCE if small else 0.0,
        )


def _fitted(context: StageContext, filters: list[str]) -> dict[str, Path]:
    """Lets the filters that learn do so, once: filter -> the folder with what it learnt."""
    fits: dict[str, Path] = {}
    for name in filters:
        part = context.part(f"filters.{name}")
        if not isinstance(part, FittedFilter):
            continue
        folder = context.work / "fit" / name
        whole = context.work / "fit" / f"{name}.whole"
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            Workshop(lambda _, part=part: part, {name: folder}).filter(name)  # type: ignore[misc]
            whole.touch()
        fits[name] = folder
    return fits


def _mixed(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, row in told["sources"].items():
        documents = f"{row['documents']:,} document{'' if row['documents'] == 1 else 's'}"
        amount = f"{row['share']:.1%}, {documents}, {_size(row['bytes'])}"
        beside = ""
        if "printed_epochs" in row:
            beside = f"; {row['printed_epochs']:g} printed" + (f": {row['why']}" if row["why"] else "")
        weight = f"{row['weight']:g} of {told['weights']:g}"
        yield f"from {name} (weight {weight})", f"{row['epochs']:.3g} epochs ({amount}{beside})"


def _size(number: int) -> str:
    """Bytes for reading: ``231 kB``."""
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
