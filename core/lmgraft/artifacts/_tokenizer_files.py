"""The files of a saved tokenizer, and what core adds to them: which part reads them, and what else the part wrote.

``tokenizer_config.json`` then holds ``lmgraft_tokenizer``, the name of the part whose ``load`` reads the folder, with
``lmgraft_tokenizer_code``, the digest of that part's package: what its code does decides ids, so it belongs to the
artifact's content and tokens are encoded anew when it changes. ``lmgraft_tokenizer_files`` names further files.

A folder may come from a stranger. It names an installed tokenizer or nothing; no module, no path, no code of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from lmgraft.component import Component
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import LoadingTokenizer, TextTokenizer, Tokenizer

__all__ = ["CONFIG", "FILE", "PART", "content", "is_readable", "load_by_part", "names", "read_json", "save"]

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"

PART = "lmgraft_tokenizer"
CODE = "lmgraft_tokenizer_code"
FILES = "lmgraft_tokenizer_files"

#: What tokens and models keep beside their tokenizer.
TAKEN = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "measure.json", "tokens.json",
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


def is_readable(folder: Path) -> bool:
    """Whether the part that reads this folder, if it takes one, is installed."""
    from lmgraft import table

    name = read_json(folder / CONFIG).get(PART)
    return name is None or bool(isinstance(name, str) and table.select("tokenizer", name))


def load_by_part(folder: Path, config: Mapping[str, Any]) -> TextTokenizer:
    """What the installed part that ``config`` names makes of the folder, built with its default settings.

    Raises :class:`UserError` where there is no such part, or it reads no folders, or it fails.
    """
    path, name = folder / CONFIG, config[PART]
    part = _part(path, name)
    try:
        loaded: Any = part.load(folder)
    except UserError:
        raise
    except Exception as error:  # the files may be damaged in any way
        cause = f"{type(error).__name__}: {error}"
        remedy = f"make the tokenizer again; lmgraft plugins show {name} tells whose part it is"
        raise UserError(Problem(f"{folder}: the tokenizer {name} cannot read it", cause, remedy)) from error
    if not isinstance(loaded, TextTokenizer):
        cause = f"{type(loaded).__name__} lacks {', '.join(_lacking(loaded))}"
        remedy = "tell its author: load returns a lmgraft.seams.tokenizer.TextTokenizer"
        raise UserError(Problem(f"{path}: what the tokenizer {name} loads is none", cause, remedy))
    return loaded


def _part(path: Path, name: Any) -> LoadingTokenizer:
    from lmgraft import table
    from lmgraft.registry import build, registry

    if not isinstance(name, str) or not table.select("tokenizer", name):
        found = ", ".join(row.name for row in table.rows() if row.seam == "tokenizer") or "none"
        cause = f"only that part can read this tokenizer; installed are {found}"
        remedy = "pip install the distribution that the tokenizer was made with"
        raise UserError(Problem(f"{path} needs the tokenizer {name!r}, which is not installed", cause, remedy))
    installed = registry().get("tokenizer", name, where=str(path))
    settings = installed.component.config()
    settings.part = name
    part: Any = build(installed.component, settings)
    if not isinstance(part, LoadingTokenizer):
        origin = f"{installed.row.distribution} {installed.row.version}"
        cause = f"it was made by a tokenizer {name} that has a method load; that of {origin} has none"
        remedy = f"pip install --upgrade {installed.row.distribution}, or the distribution that it was made with"
        raise UserError(Problem(f"{path} cannot be read by the installed tokenizer {name!r}", cause, remedy))
    return part


def _lacking(loaded: Any) -> list[str]:
    wanted = [name for name in vars(TextTokenizer) if not name.startswith("_")]
    return [name for name in wanted if not hasattr(loaded, name)]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises :class:`UserError` where it is missing or broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "name a folder that holds tokenizer.json and tokenizer_config.json"
        raise UserError(Problem(f"{path} is missing", "a tokenizer is read from it", remedy)) from error
    except ValueError as error:
        raise UserError(Problem(f"{path} is not JSON", str(error), "make the tokenizer again")) from error
    if not isinstance(found, dict):
        raise UserError(Problem(f"{path} holds no JSON object", "its keys are needed", "make the tokenizer again"))
    return found


def content(token: Any) -> Any:
    """Files hold a token as a string or as ``{"content": ...}``."""
    return token.get("content") if isinstance(token, dict) else token
