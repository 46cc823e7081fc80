"""Tokens on a terminal: a row of the text's tokens, and under it the row of their ids. Without colour, brackets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from lmgraft.tokenview.shown import LINE_END, visible
from lmgraft.tokenview.view import SPECIAL, UNKNOWN, Token

__all__ = ["coloured", "has_colour", "plain"]

#: Dark ink on pale grounds: both are set, so that they are read on light and dark terminals. 256-colour codes.
GROUNDS = (153, 223, 157, 218, 229)
INK = "30"
MARKS = {SPECIAL: "\x1b[1;97;48;5;54m", UNKNOWN: "\x1b[1;97;48;5;160m"}
RESET, FAINT, DIFFERS = "\x1b[0m", "\x1b[2m", "\x1b[1;4m"


def has_colour(stream: IO[str], environment: Mapping[str, str] | None = None) -> bool:
    """Whether to colour what goes to ``stream``: it is a terminal, and ``NO_COLOR`` (no-color.org) is not set.
    ``FORCE_COLOR`` colours a pipe too."""
    found = os.environ if environment is None else environment
    if found.get("NO_COLOR"):
        return False
    return bool(found.get("FORCE_COLOR")) or (stream.isatty() and found.get("TERM") not in (None, "", "dumb"))


def coloured(
    tokens: Sequence[Token], data: bytes, *, width: int, ids: bool, differs: Sequence[bool] = ()
) -> Iterator[str]:
    """Lines of a terminal ``width`` columns wide. ``data`` is the text's UTF-8; tokens that ``differs`` marks are
    underlined."""
    from rich.cells import cell_len

    row: list[tuple[str, str, str, int]] = []
    used = 0
    for number, (shown, token) in enumerate(_cells(tokens, data)):
        style = f"\x1b[{INK};48;5;{GROUNDS[number % len(GROUNDS)]}m"
        style = MARKS.get(token.kind, style) + (DIFFERS if differs and differs[number] else "")
        label = str(token.id) if ids else ""
        cells = max(cell_len(shown), len(label)) + ids
        if row and used + cells > width:
            yield from _rows(row)
            row, used = [], 0
        row.append((style, shown, label, cells - cell_len(shown)))
        used += cells
        if shown.endswith(LINE_END):
            yield from _rows(row)
            row, used = [], 0
    yield from _rows(row)


def _rows(row: Sequence[tuple[str, str, str, int]]) -> Iterator[str]:
    if not row:
        return
    yield "".join(f"{style}{shown}{RESET}{' ' * pad}" for style, shown, _, pad in row)
    if any(label for _, _, label, _ in row):
        from rich.cells import cell_len

        labels = "".join(label.ljust(cell_len(shown) + pad) for _, shown, label, pad in row)
        yield f"{FAINT}{labels.rstrip()}{RESET}"


def plain(tokens: Sequence[Token], data: bytes, *, ids: bool, differs: Sequence[bool] = ()) -> Iterator[str]:
    """Lines without colour, one for each line of the text: ``[id:token]``, or ``[token]`` without ids. Special and
    unknown tokens are called so, and tokens that ``differs`` marks stand behind ``*``."""
    line: list[str] = []
    for number, (shown, token) in enumerate(_cells(tokens, data)):
        said = f"{token.id}:{shown}" if ids else shown
        kind = f" {token.kind}" if token.kind in MARKS else ""
        line.append(f"{'*' if differs and differs[number] else ''}[{said}{kind}]")
        if shown.endswith(LINE_END):
            yield "".join(line)
            line = []
    if line:
        yield "".join(line)


def _cells(tokens: Sequence[Token], data: bytes) -> Iterator[tuple[str, Token]]:
    """What each token shows: its bytes of the text; in ``‹›`` its piece where it stands for none of them."""
    for token in tokens:
        own = visible(data[token.start : token.stop])
        yield own or f"‹{visible(token.piece.encode('utf-8', 'replace'))}›", token
