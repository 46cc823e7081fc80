"""The files of a saved tokenizer, and what core adds to them: which part reads them, and what else the part wrote.

``tokenizer_config.json`` then holds ``lmgraft_tokenizer``, the name of the part whose ``load`` reads the folder, with
``lmgraft_tokenizer_code``, the digest of that part's package: what its code does decides ids, so it belongs to the
artifact's content and tokens are encoded anew when it changes. ``lmgraft_tokenizer_files`` names further files.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from lmgraft.component import Component
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import LoadingTokenizer, Tokenizer

__all__ = ["CONFIG", "FILE", "PART", "content", "names", "read_json", "save"]

FILE = "tokenizer.json"
"""The vocabulary and the rules of Hugging Face's ``tokenizers``; of a part that loads by itself its own object."""
CONFIG = "tokenizer_config.json"
"""Which tokens end texts and fill batches, and the chat template."""

PART = "lmgraft_tokenizer"
CODE = "lmgraft_tokenizer_code"
FILES = "lmgraft_tokenizer_files"

#: What tokens and models keep beside their tokenizer.
TAKEN = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "measure.json", "sample.json",
    "look.json", "changed.jsonl", "tokens.json",
    "train.*", "validation.*", "test.*",
)  # fmt: skip


def save(part: Tokenizer, component: Component[Any], folder: Path) -> None:
    """Lets ``part`` save itself to the empty ``folder`` and notes there what :func:`load` will need to know.

    Raises :class:`UserError` where the part leaves out one of the two files, or takes a name that models need.
    """
    part.save(folder)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    more = sorted(written - {FILE, CONFIG})
    _check_written(component.name, {FILE, CONFIG} - written, more)
    read_json(folder / FILE)
    config = read_json(folder / CONFIG)
    if isinstance(part, LoadingTokenizer):
        from lmgraft.registry import package_hash

        package = component.target.partition(":")[0].partition(".")[0]
        config |= {PART: component.name, CODE: package_hash(package)}
    if more:
        config[FILES] = more
    if more or PART in config:
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")


def _check_written(part: str, missing: set[str], more: list[str]) -> None:
    if missing:
        cause = "every saved tokenizer has both files, and other tools look for them"
        remedy = f"tell its author: save writes {FILE} and {CONFIG}"
        raise UserError(Problem(f"the tokenizer {part} saved no {' and no '.join(sorted(missing))}", cause, remedy))
    taken = [name for name in more if _is_taken(name)]
    if taken:
        cause = "its files lie beside tokens and models later, which have a file of that name"
        remedy = "tell its author: another name, such as one in a folder of its own"
        raise UserError(Problem(f"the tokenizer {part} saved {taken[0]}", cause, remedy))


def _is_taken(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in TAKEN)


def names(folder: Path) -> list[str]:
    """The files of the tokenizer in ``folder``, relative to it.

    Raises :class:`UserError` for names that lead out of the folder, and for those of other things in it.
    """
    path = folder / CONFIG
    more = read_json(path).get(FILES, [])
    if not isinstance(more, list) or not all(isinstance(name, str) and _inside(folder, name) for name in more):
        cause = f"{FILES} is {more!r}; expected names of files below the folder, with / between"
        raise UserError(Problem(f"{path} names files elsewhere", cause, "make the tokenizer again"))
    taken = [name for name in more if _is_taken(name)]
    if taken:
        cause = f"{FILES} names it, and files of that name belong to models and tokens"
        raise UserError(Problem(f"{path} takes {taken[0]} for its own", cause, "make the tokenizer again"))
    return [FILE, CONFIG, *more]


def _inside(folder: Path, name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:\0")
    # A link in the folder may lead out of it.
    return plain and (folder / name).resolve().is_relative_to(folder.resolve())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises :class:`UserError` where it is missing or broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "name a folder that holds tokenizer.json and tokenizer_config.json"
        raise UserError(Problem(f"{path} is missing", "a tokenizer is read from it", remedy)) from error
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(f"{path} is not JSON", str(error), "make the tokenizer again")) from error
    if not isinstance(found, dict):
        raise UserError(Problem(f"{path} holds no JSON object", "its keys are needed", "make the tokenizer again"))
    return found


def content(token: Any) -> Any:
    """Files hold a token as a string or as ``{"content": ...}``."""
    return token.get("content") if isinstance(token, dict) else token
