"""From what a person names to a tokenizer: a folder, a file, a run, or nothing at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmgraft import manifest, table
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Problem, UserError
from lmgraft.openers import openers, written_by
from lmgraft.rundir import linked
from lmgraft.tokenview.view import View, open_file, open_folder

__all__ = ["find", "newest"]

RUNS = Path("runs")


def find(place: str) -> View:
    """The tokenizer of a folder with ``tokenizer.json`` (a model, an artifact), of such a file, of a run directory
    (``RUN:STAGE`` picks one of its stages), or of a file that an installed part opens, such as ``llama.model``.

    Raises :class:`~lmgraft.errors.UserError` where there is none, or it cannot be read.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return _of_file(path, place)
    if path.is_dir():
        return _of_run(path, place) if (path / manifest.FILE).is_file() else _of_folder(path, place)
    run, colon, stage = place.rpartition(":")
    folder = Path(run).expanduser()
    if colon and (folder / manifest.FILE).is_file():
        return _of_stage(folder, stage, place)
    remedy = "name a folder with tokenizer.json, such a file, or a run directory: lmgraft runs lists those"
    raise UserError(Problem(f"{place} is no tokenizer", "there is no such file or folder", remedy))


def newest(runs: Path = RUNS) -> View:
    """The tokenizer of the newest run below ``runs`` that has one; UserError where there is none."""
    found = sorted(_runs(runs), key=lambda item: (str(item[1].get("started", "")), str(item[0])), reverse=True)
    for folder, data in found:
        for stage, place in _tokenizers(folder, data):
            return open_folder(place, f"{folder}:{stage}")
    cause = f"no run below {runs} has made one" if found else f"there is no run below {runs}"
    remedy = "--tokenizer FOLDER, a tokenizer.json, or a run directory; lmgraft run quickstart makes one"
    raise UserError(Problem("no tokenizer was named", cause, remedy))


def _runs(runs: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for root, folders, files in os.walk(runs):
        if manifest.FILE in files:
            folders[:] = []
            try:
                yield Path(root), manifest.read(Path(root))
            except (OSError, ValueError):
                continue


def _tokenizers(run: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Stages of a run that hold a tokenizer: the last one of kind ``tokenizer`` first, else the last model."""
    stages = [(name, stage) for name, stage in reversed(list((data.get("stages") or {}).items()))]
    for name, _ in sorted(stages, key=lambda item: item[1].get("kind") != "tokenizer"):
        place = linked(run, name)
        if place is not None and (place / tokenizers.FILE).is_file():
            yield name, place


def _of_run(run: Path, name: str) -> View:
    for stage, place in _tokenizers(run, _read(run)):
        return open_folder(place, f"{name.rstrip('/')}:{stage}")
    cause = "no stage of it has made a tokenizer or a model"
    raise UserError(Problem(f"the run {name} holds no tokenizer", cause, "lmgraft run the recipe to its end"))


def _of_stage(run: Path, stage: str, name: str) -> View:
    stages = list(_read(run).get("stages") or {})
    place = linked(run, stage)
    if place is not None and (place / tokenizers.FILE).is_file():
        return open_folder(place, name)
    cause = f"that stage holds no {tokenizers.FILE}"
    if stage not in stages:
        cause = "; ".join(filter(None, (f"the run has no stage {stage!r}", table.close(stage, stages))))
    having = ", ".join(found for found, _ in _tokenizers(run, _read(run))) or "none"
    raise UserError(Problem(f"{name} names no tokenizer", cause, f"name a stage that has one: {having}"))


def _read(run: Path) -> Mapping[str, Any]:
    try:
        return manifest.read(run)
    except (OSError, ValueError) as error:
        raise UserError(Problem(f"{run} is no run directory", str(error), "lmgraft runs lists them")) from error


def _of_folder(folder: Path, name: str) -> View:
    if (folder / tokenizers.FILE).is_file():
        return open_folder(folder, name)
    for ending in openers():
        if (folder / f"tokenizer{ending}").is_file():
            return _of_file(folder / f"tokenizer{ending}", name)
    runs = sorted(found.parent for found in folder.glob(f"*/{manifest.FILE}"))
    if runs:
        remedy = f"name one of them: {runs[-1]}"
        raise UserError(Problem(f"{folder} is no run directory", f"it is a folder of {len(runs):,} of them", remedy))
    cause = f"it holds neither {tokenizers.FILE} nor {manifest.FILE}"
    remedy = "name a folder of a tokenizer or a model, or a run directory: lmgraft runs lists those"
    raise UserError(Problem(f"{folder} holds no tokenizer", cause, remedy))


def _of_file(file: Path, name: str) -> View:
    for ending, part in openers().items():
        if file.name.endswith(ending) and not file.name.endswith(".json"):
            return _by_part(part, file, name)
    if not file.name.endswith(".json"):
        endings = ", ".join((tokenizers.FILE, *openers()))
        cause = f"files that are opened by themselves end with {endings}"
        remedy = "name one of these; a SentencePiece .model needs the tokenizer part pretrained (lmgraft plugins list)"
        raise UserError(Problem(f"{file} is no tokenizer that can be read", cause, remedy))
    if file.name == tokenizers.FILE:
        return open_folder(file.parent, name)
    return open_file(file, name)


def _by_part(name: str, file: Path, shown: str) -> View:
    with TemporaryDirectory(prefix="lmgraft-tokens-") as folder:
        written_by(name, file, Path(folder))
        return open_folder(Path(folder), shown)
