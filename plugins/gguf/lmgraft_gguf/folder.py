"""The files of a tokenizer in a model folder, of lmgraft's or of others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["chat_template", "read_object", "special"]


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
