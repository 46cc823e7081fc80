"""Tokens on a page: a span each, with its id on hover. What a text says is escaped, whatever it says."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from lmgraft.tokenview.shown import LINE_END, visible
from lmgraft.tokenview.view import TEXT, Token

__all__ = ["STYLES", "draw", "pieces"]

#: The classes ``t0`` .. of the page's style sheet, taken in turns.
STYLES = 5


def draw(tokens: Sequence[Token], data: bytes, differs: Sequence[bool] = ()) -> Markup:
    """The text as spans of class ``t``; ``data`` is its UTF-8. Special, unknown and differing tokens have a class of
    that name, and a line ends where the text's does."""
    parts = []
    done = 0
    for number, token in enumerate(tokens):
        if token.start > done:
            parts.append(Markup("{}").format(_lines(data[done : token.start])))
        shown = _lines(data[token.start : token.stop]) or f"‹{_piece(token)}›"
        differing = bool(differs) and differs[number]
        style = [f"t{number % STYLES}", *([token.kind] if token.kind != TEXT else ()), *(["differs"] * differing)]
        span = Markup('<span class="t {}" title="{}">{}</span>')
        parts.append(span.format(" ".join(style), _told(token, differing), shown.removesuffix("\n")))
        if shown.endswith("\n"):  # behind the span, or a strip of it would stand at the beginning of the next line
            parts.append(Markup("\n"))
        done = max(done, token.stop)
    if done < len(data):
        parts.append(Markup("{}").format(_lines(data[done:])))
    return Markup("").join(parts)


def pieces(found: Sequence[str]) -> Markup:
    """Pieces that have been made visible, one beside the other."""
    span = Markup('<span class="t t{}">{}</span>')
    return Markup("").join(span.format(number % STYLES, piece) for number, piece in enumerate(found))


def _lines(data: bytes) -> str:
    return visible(data).replace(LINE_END, f"{LINE_END}\n")


def _piece(token: Token) -> str:
    return visible(token.piece.encode("utf-8", "replace"))


def _told(token: Token, differing: bool) -> str:
    kind = "" if token.kind == TEXT else f", {token.kind}"
    return f"id {token.id}{kind}: {_piece(token)}{' (cut differently)' if differing else ''}"
