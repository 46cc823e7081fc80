"""Whether packed tokens hold ids that the model has no embedding for, seen before it is built.

A file that says one thing of itself and holds another (made elsewhere, damaged, put beside another tokenizer.json)
would otherwise end as an index error of a kernel, after an hour or on one rank of many. Every file is read once: that
takes a second a gigabyte from the system's cache, which training reads it through anyway, and a stage that goes on
after a crash does not do it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmgraft.artifacts import tokens
from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from lmgraft.seams.stage import Progress, StageContext

__all__ = ["check"]

#: Written into the stage's work folder once all files were read.
MARK = "token-ids.checked"
#: Tokens that are in memory at a time.
BLOCK = 1 << 22
#: Fewer are read before a bar could be drawn.
SHOWN = 1 << 27


def check(context: StageContext, sources: Mapping[str, Path], vocab_size: int) -> None:
    """Reads all tokens of ``sources`` (stage -> folder of packed tokens).

    :raises UserError: an id is not in ``0 .. vocab_size - 1``; a problem a source, naming the first one.
    """
    mark = context.work / MARK
    if mark.is_file():
        return
    problems: list[Problem] = []
    files: list[tuple[str, str, tokens.TokenFile]] = []
    for stage, folder in sources.items():
        told = tokens.info(folder)
        problems += _special(context, stage, told, vocab_size)
        files += [
            (stage, split, tokens.TokenFile(folder / split)) for split, held in told.splits.items() if held.tokens
        ]
    total = sum(file.tokens for _, _, file in files)
    with context.progress("reading token ids", total, "tokens") if total >= SHOWN else nullcontext() as bar:
        for stage, split, file in files:
            problems += _ids(context, bar, stage, split, file, vocab_size)
    if problems:
        raise UserError(problems)
    mark.touch()


def _special(context: StageContext, stage: str, told: tokens.TokensInfo, vocab_size: int) -> Iterator[Problem]:
    """The manifest's own ids, which fill batches, and begin and end documents."""
    for name, index in (("first_id", told.first_id), ("end_id", told.end_id), ("pad_id", told.pad_id)):
        if name == "first_id" and index == told.end_id:
            continue
        if not 0 <= index < vocab_size:
            yield _beyond(context, stage, f"{tokens.MANIFEST} of {stage} has {name} {index}", vocab_size)


def _ids(
    context: StageContext, bar: Progress | None, stage: str, split: str, file: tokens.TokenFile, vocab_size: int
) -> Iterator[Problem]:
    """The first id that is not in the vocabulary."""
    for start, block in _blocks(file):
        context.alive()
        if bar is not None:
            bar.advance(len(block))
        if int(block.min()) >= 0 and int(block.max()) < vocab_size:
            continue
        place = int(((block < 0) | (block >= vocab_size)).argmax())
        fact = f"the {split} split of {stage} holds id {int(block[place])} (token {start + place:,} of {file.tokens:,})"
        yield _beyond(context, stage, fact, vocab_size)
        return


def _blocks(file: tokens.TokenFile) -> Iterator[tuple[int, NDArray[Any]]]:
    """(where it begins, tokens). Read and not mapped: pages of a map would count as this process's memory."""
    with file.prefix.with_name(f"{file.prefix.name}.bin").open("rb") as data:
        for start in range(0, file.tokens, BLOCK):
            yield start, np.fromfile(data, file.dtype, min(BLOCK, file.tokens - start))


def _beyond(context: StageContext, stage: str, fact: str, vocab_size: int) -> Problem:
    return Problem(
        f"stage {context.name}: {fact}",
        f"the vocabulary has {vocab_size:,} tokens, ids 0 to {vocab_size - 1}, and the model a row for each of them",
        f"run {stage} again, or encode the text with the tokenizer that lies beside it",
    )
