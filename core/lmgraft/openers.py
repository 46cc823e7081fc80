"""Tokenizers of others: a part that says so (``opens`` of its settings) makes of their files what lmgraft reads.

A model folder of somebody else's may hold a SentencePiece model alone, or name no token that fills batches; folders of
lmgraft's own name one always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmgraft import table
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Problem, UserError
from lmgraft.registry import build, registry
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["STEM", "is_opened", "load_tokenizer", "openers", "readable", "write", "written_by"]

#: What a model folder's tokenizer is called, whatever opens it.
STEM = "tokenizer"


def openers() -> dict[str, str]:
    """Ending of a file -> the installed part that opens it (``opens`` of its settings)."""
    found: dict[str, str] = {}
    for row in table.rows():
        if row.seam != "tokenizer" or row.state != "unchecked":
            continue
        try:
            endings = getattr(registry().get("tokenizer", row.name).component.config, "opens", ())
        except UserError:
            continue  # a broken plugin that nobody selected
        for ending in endings:
            found.setdefault(ending, row.name)
    return found


def written_by(name: str, file: Path, folder: Path) -> None:
    """Lets the part ``name`` open ``file`` and save what it read to the empty ``folder``.

    :raises UserError: the part cannot read it.
    """
    component = registry().get("tokenizer", name, where=str(file)).component
    make = getattr(component.config, "opening", None)
    settings: Any = component.config() if make is None else make(str(file))
    settings.part = name
    settings.path = settings.path or str(file)
    part: Any = build(component, settings)
    part.train(iter(()))
    tokenizers.save(part, component, folder)


def write(model: Path, folder: Path) -> None:
    """The tokenizer of somebody's model folder, as lmgraft keeps it, in the empty ``folder``.

    :raises UserError: there is none, or no installed part opens it.
    """
    endings = openers()
    # tokenizer.json says more than the SentencePiece model that it was made from.
    for ending in sorted(endings, key=lambda ending: ending != ".json"):
        if (model / f"{STEM}{ending}").is_file():
            return written_by(endings[ending], model / f"{STEM}{ending}", folder)
    names = ", ".join(f"{STEM}{ending}" for ending in endings) or tokenizers.FILE
    cause = f"it holds none of {names}"
    raise UserError(Problem(f"{model} holds no tokenizer", cause, "put the model's tokenizer files beside it"))


def load_tokenizer(model: Path) -> TextTokenizer:
    """The tokenizer of a model folder, of lmgraft's or of somebody else's.

    :raises UserError: there is none, or it cannot be read.
    """
    with readable(model) as folder:
        return tokenizers.load(folder)


@contextmanager
def readable(model: Path) -> Iterator[Path]:
    """``model``, where lmgraft reads its tokenizer as it is; otherwise a folder with what a part makes of it, for as
    long as the block lasts: with a token for padding, where it names none. Problems told within name ``model``.

    :raises UserError: there is no tokenizer, or it cannot be read.
    """
    error = _unread(model)
    if error is None:
        yield model
        return
    if not is_opened(model):
        raise error
    with TemporaryDirectory(prefix="lmgraft-tokenizer-") as folder:
        try:
            write(model, Path(folder))
        except UserError:
            raise error from None
        try:
            yield Path(folder)
        except UserError as told:
            texts = [(problem.fact, problem.cause, problem.remedy) for problem in told.problems]
            named = [Problem(*(text.replace(folder, str(model)) for text in three)) for three in texts]
            raise UserError(named) from told


def is_opened(model: Path) -> bool:
    """Whether the folder holds a file that an installed part opens; what is in it is not looked at."""
    return any((model / f"{STEM}{ending}").is_file() for ending in openers())


def _unread(model: Path) -> UserError | None:
    try:
        tokenizers.load(model)
    except UserError as error:
        return error
    return None
