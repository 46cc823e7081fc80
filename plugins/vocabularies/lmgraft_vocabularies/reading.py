"""Finds and reads the files of a vocabulary that others made; whatever else lies there is refused in three lines."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft import manifest
from lmgraft.artifacts.tokenizer import CONFIG, FILE
from lmgraft.errors import Problem, UserError

__all__ = ["Files", "find", "read_json"]

#: No tokenizer.json is larger; a packed file that unfolds to more is not read on.
MOST_BYTES = 1 << 30
_TEMPLATE = "chat_template.jinja"
_REMEDY = "give the path of a SentencePiece .model, of a tokenizer.json, or of a folder with one of them"


@dataclass(frozen=True, slots=True)
class Files:
    """Where a vocabulary lies; at least one of ``json`` and ``model`` is there."""

    json: Path | None = None
    model: Path | None = None
    config: Path | None = None
    template: Path | None = None

    def all(self) -> dict[str, str]:
        """Role -> path, of those that are there."""
        named = {"json": self.json, "model": self.model, "config": self.config, "template": self.template}
        return {role: str(path) for role, path in named.items() if path is not None}


def find(path: Path) -> Files:
    """The files at ``path``, none of them opened.

    Raises :class:`~lmgraft.errors.UserError` where nothing is there, or a folder without a vocabulary.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise UserError(Problem(f"{path} is missing", "a tokenizer is read from it", _REMEDY))
    if path.name.endswith(".model"):
        return Files(model=path)
    return Files(json=path)


def _in_folder(path: Path) -> Files:
    if (path / manifest.FILE).is_file():  # of a run directory, its last model
        from lmgraft.loading import model_folder

        path = model_folder(path)
    jsons = [path / name for name in (FILE, f"{FILE}.gz") if (path / name).is_file()]
    models = [path / "tokenizer.model"] if (path / "tokenizer.model").is_file() else sorted(path.glob("*.model"))
    if not jsons and len(models) != 1:
        cause = f"it holds no {FILE}, and {len(models) or 'no'} .model"
        raise UserError(Problem(f"{path} holds no vocabulary", cause, _REMEDY))
    model = models[0] if len(models) == 1 else None
    config, template = (path / name if (path / name).is_file() else None for name in (CONFIG, _TEMPLATE))
    return Files(jsons[0] if jsons else None, model, config, template)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, ``.gz`` or not; of tokenizer.json that it has a model.

    Raises :class:`~lmgraft.errors.UserError` where it is something else.
    """
    data = _content(path)
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(_no_json(path, data, str(error))) from error
    if not isinstance(found, dict):
        raise UserError(Problem(f"{path} holds no JSON object", "a tokenizer.json is one", _REMEDY))
    if path.name not in (CONFIG,) and not isinstance(found.get("model"), dict):
        few = ", ".join(map(repr, list(found)[:3]))
        cause = f"it has no key 'model'; its first keys are {few or 'none'}"
        remedy = "give tokenizer.json of Hugging Face's tokenizers; a vocab.json alone has no merges and no pattern"
        raise UserError(Problem(f"{path} is no tokenizer.json", cause, remedy))
    return found


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UserError(Problem(f"{path} cannot be read", cause, _REMEDY)) from error
    if len(data) > MOST_BYTES:
        cause = f"it holds more than {MOST_BYTES:,} bytes, and vocabularies hold a few million"
        raise UserError(Problem(f"{path} is no tokenizer.json", cause, _REMEDY))
    return data


def _no_json(path: Path, data: bytes, why: str) -> Problem:
    head = data[:64].lstrip()
    if head.startswith(b"version https://git-lfs"):
        remedy = "git lfs pull, where the file came from"
        return Problem(f"{path} is no tokenizer.json", "it is a pointer of git-lfs, and not the file itself", remedy)
    if head.startswith(b"<"):
        remedy = "download the file itself (its raw or resolve address)"
        return Problem(f"{path} is no tokenizer.json", "it is a web page", remedy)
    return Problem(f"{path} is not JSON", why, "copy or download it again, or name the .model by that ending")
