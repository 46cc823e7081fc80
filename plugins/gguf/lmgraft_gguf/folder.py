"""The files of a tokenizer in a model folder, of lmgraft's or of others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmgraft import openers
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import Problem, UserError

__all__ = ["chat_template", "files", "read_object", "special", "without_added_padding"]


def files(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``tokenizer.json`` and ``tokenizer_config.json`` of a model folder; of one that holds a tokenizer in another form
    (SentencePiece's ``tokenizer.model``), what the part that opens it makes of that.

    :raises UserError: there is none, or it is damaged.
    """
    others = any((folder / f"{openers.STEM}{ending}").is_file() for ending in openers.openers())
    if (folder / saved.FILE).is_file() or not others:
        return read_object(folder / saved.FILE), read_object(folder / saved.CONFIG)
    with TemporaryDirectory(prefix="lmgraft-tokenizer-") as place:
        openers.write(folder, Path(place))
        return read_object(Path(place) / saved.FILE), read_object(Path(place) / saved.CONFIG)


def without_added_padding(content: dict[str, Any], config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Without the padding token that was added where the files named none and the model has no row for it: llama.cpp
    never pads."""
    added, padding = list(content.get("added_tokens") or ()), special(config, "pad_token")
    if added and added[-1].get("content") == padding and added[-1].get("id") == rows:
        return {**content, "added_tokens": added[:-1]}
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    :raises UserError: it is missing or broken.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        cause = "a GGUF file holds its tokenizer, and llama.cpp can read nothing without one"
        raise UserError(Problem(f"{path} is missing", cause, "put the model's tokenizer files beside it")) from None
    except (OSError, ValueError) as error:
        raise UserError(Problem(f"{path} cannot be read", str(error), "fetch the model folder again")) from error
    if not isinstance(found, dict):
        raise UserError(Problem(f"{path} holds no JSON object", "its keys are needed", "fetch the model folder again"))
    return found


def special(config: Mapping[str, Any], key: str) -> str | None:
    """A token that ``tokenizer_config.json`` names, as text or as ``{"content": ...}``."""
    token = config.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The Jinja source: transformers 5 keeps it in a file of its own, lmgraft and transformers 4 in the config."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    told = config.get("chat_template")
    if isinstance(told, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in told if isinstance(entry, dict)}
        told = named.get("default")
    return told if isinstance(told, str) else None
