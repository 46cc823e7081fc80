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
#: Style, text, id, and the spaces behind it.
_Cell = tuple[str, str, str, int]
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

    row: list[_Cell] = []
    used = 0
    for shown, number in _cells(tokens, data):
        token = None if number is None else tokens[number]
        label = str(token.id) if token and ids else ""
        cells = max(cell_len(shown), len(label)) + ids
        if row and used + cells > width:
            yield from _rows(row)
            row, used = [], 0
        style = _style(token, number or 0, bool(number is not None and differs and differs[number]))
        row.append((style, shown, label, cells - cell_len(shown)))
        used += cells
        if shown.endswith(LINE_END):
            yield from _rows(row)
            row, used = [], 0
    yield from _rows(row)


def _style(token: Token | None, number: int, differs: bool) -> str:
    if token is None:
        return FAINT
    ground = f"\x1b[{INK};48;5;{GROUNDS[number % len(GROUNDS)]}m"
    return MARKS.get(token.kind, ground) + (DIFFERS if differs else "")


def _rows(row: Sequence[_Cell]) -> Iterator[str]:
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
    for shown, number in _cells(tokens, data):
        if number is None:
            line.append(shown)
        else:
            token = tokens[number]
            said = f"{token.id}:{shown}" if ids else shown
            kind = f" {token.kind}" if token.kind in MARKS else ""
            line.append(f"{'*' if differs and differs[number] else ''}[{said}{kind}]")
        if shown.endswith(LINE_END):
            yield "".join(line)
            line = []
    if line:
        yield "".join(line)


def _cells(tokens: Sequence[Token], data: bytes) -> Iterator[tuple[str, int | None]]:
    """What each token shows, and its number: its bytes of the text, or in ``‹›`` its piece where it stands for none of
    them. What lies between tokens comes without a number, cut at line ends."""
    done = 0
    for number, token in enumerate(tokens):
        yield from ((visible(part), None) for part in data[done : token.start].splitlines(keepends=True))
        own = visible(data[token.start : token.stop])
        yield own or f"‹{visible(token.piece.encode('utf-8', 'replace'))}›", number
        done = max(done, token.stop)
    yield from ((visible(part), None) for part in data[done:].splitlines(keepends=True))
