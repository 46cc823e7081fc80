"""A tokenizer that an installed part reads by its own ``load``, as core hands it on.

A folder may come from a stranger. It names an installed tokenizer or nothing; no module, no path, no code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts._tokenizer_files import CONFIG, PART, read_json
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import LoadingTokenizer, TextTokenizer

__all__ = ["OwnTokenizer", "is_readable", "load_by_part"]

_WANTED = ("vocab_size", "end_id", "pad_id", "encode_batch", "decode", "token_bytes", "fingerprint")


class OwnTokenizer:
    """What a part's ``load`` gave, with the chat template of ``tokenizer_config.json``: core writes it there after
    training on chats, so no part has to look for it. Satisfies :class:`~lmgraft.seams.tokenizer.TextTokenizer`."""

    def __init__(self, loaded: Any, chat_template: str | None) -> None:
        self._loaded = loaded
        self._chat_template = chat_template

    @property
    def vocab_size(self) -> int:
        return int(self._loaded.vocab_size)

    @property
    def end_id(self) -> int:
        return int(self._loaded.end_id)

    @property
    def pad_id(self) -> int:
        return int(self._loaded.pad_id)

    @property
    def chat_template(self) -> str | None:
        return self._chat_template

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._loaded.encode_batch(texts)
        return found

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        text: str = self._loaded.decode(ids, skip_special=skip_special)
        return text

    def token_bytes(self) -> list[int]:
        sizes: list[int] = self._loaded.token_bytes()
        return sizes

    def fingerprint(self) -> str:
        return str(self._loaded.fingerprint())

    def __getattr__(self, name: str) -> Any:
        # Whatever else it offers, `encode_arrays` before all. Names of our own are missing only while unpickling.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loaded, name)


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
        loaded = part.load(folder)
    except UserError:
        raise
    except Exception as error:  # the files may be damaged in any way
        cause = f"{type(error).__name__}: {error}"
        remedy = f"make the tokenizer again; lmgraft plugins show {name} tells whose part it is"
        raise UserError(Problem(f"{folder}: the tokenizer {name} cannot read it", cause, remedy)) from error
    lacking = [name for name in _WANTED if not hasattr(loaded, name)]
    if lacking:
        cause = f"{type(loaded).__name__} lacks {', '.join(lacking)}"
        remedy = "tell its author: load returns a lmgraft.seams.tokenizer.TextTokenizer"
        raise UserError(Problem(f"{path}: what the tokenizer {name} loads is none", cause, remedy))
    template = config.get("chat_template")
    return OwnTokenizer(loaded, template if isinstance(template, str) else None)


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
