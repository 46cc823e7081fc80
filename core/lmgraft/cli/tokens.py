"""``lmgraft tokens``: a text cut into its tokens, by one tokenizer or by two."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lmgraft.tokenview.comparing import Comparison
    from lmgraft.tokenview.figures import Figures
    from lmgraft.tokenview.reading import Text
    from lmgraft.tokenview.view import Token, View

__all__ = ["tokens"]

#: What JSON leaves as it is and a terminal obeys: the control characters above ASCII, marks of direction.
_ACTING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@click.command(
    epilog="""\b
Examples:
  lmgraft tokens "The quick brown fox"
  lmgraft tokens README.md --tokenizer runs/quickstart/2026-01-31_12-00-00
  lmgraft tokens notes.txt --tokenizer llama.model --against chinese-llama/
  lmgraft tokens "naïve café" --tokenizer runs/wordpiece --against runs/bpe:pretrain --no-ids
  git log -p | lmgraft tokens - --limit 500
  lmgraft tokens notes.txt --json > tokens.json"""
)
@click.argument("text", metavar="FILE_OR_TEXT")
@click.option(
    "--tokenizer",
    metavar="A",
    help="A folder with tokenizer.json (a model, an artifact), such a file, a run directory (RUN:STAGE picks a stage), "
    "or a SentencePiece .model.  [default: the newest run's]",
)
@click.option("--against", metavar="B", help="Another one; where they cut differently is marked.")
@click.option("--ids/--no-ids", default=True, help="Show each token's id.  [default: ids]")
@click.option("--special", is_flag=True, help="Take special tokens that the text spells as such, and not as text.")
@click.option("--limit", default=2000, show_default=True, help="Characters shown at most; 0 shows all that was read.")
@click.option("--json", "as_json", is_flag=True, help="For machines: counts, and the shown tokens with their places.")
def tokens(
    text: str, tokenizer: str | None, against: str | None, ids: bool, special: bool, limit: int, as_json: bool
) -> int:
    """Shows FILE_OR_TEXT (- reads standard input) cut into tokens, and counts them."""
    from lmgraft.errors import Problem, UserError
    from lmgraft.tokenview.comparing import Comparison
    from lmgraft.tokenview.finding import find, newest
    from lmgraft.tokenview.reading import read

    if limit < 0:
        cause = "it counts characters and cannot be negative"
        raise UserError(Problem(f"--limit {limit}", cause, "--limit 2000; 0 shows all"))
    given = read(text)
    views = [find(tokenizer) if tokenizer is not None else newest()]
    if against is not None:
        views.append(find(against))
    for view in views if special else ():
        view.take_special()
    compared = Comparison(*views) if against is not None else None
    beginning = given.beginning(limit)
    data, cuts = beginning.shown([view.cut(beginning.window) for view in views])
    look = _Look(given, data, views, cuts, [view.count(given.text) for view in views], compared)
    if as_json:
        _print_json(look)
    else:
        _print(look, ids)
    return 0


@dataclass(frozen=True, slots=True)
class _Look:
    """All that is shown: of each tokenizer its tokens of ``data``, the text's beginning, and its counts of the text."""

    given: Text
    data: bytes
    views: list[View]
    cuts: list[list[Token]]
    figures: list[Figures]
    compared: Comparison | None

    def marks(self) -> list[list[bool]]:
        """For each tokenizer which of its tokens the other one cuts differently."""
        from lmgraft.tokenview.comparing import differing

        if len(self.cuts) == 1:
            return [[]]
        first, second = self.cuts
        return [differing(first, second, self.data), differing(second, first, self.data)]


def _print(look: _Look, ids: bool) -> None:
    from lmgraft.console import Console
    from lmgraft.printable import printable
    from lmgraft.tokenview import terminal

    colour = terminal.has_colour(sys.stdout)
    for view, own, marks in zip(look.views, look.cuts, look.marks(), strict=True):
        if len(look.views) > 1:
            print(f"{printable(view.name)}:")
        if colour:
            lines = terminal.coloured(own, look.data, width=_width(), ids=ids, differs=marks)
        else:
            lines = terminal.plain(own, look.data, ids=ids, differs=marks)
        for line in lines:
            print(line)
        print()
    for note in look.given.notes(len(look.data)):
        print(note)
    rows = [(name, *map(cell, look.figures)) for name, cell in ROWS.items()]
    header = ("", *(f"{view.name} ({view.vocab_size:,} ids)" for view in look.views))
    title = f"{look.given.name}: {look.given.counted:,} bytes"
    Console().table(title, header, rows, right=range(1, len(header)))
    if look.compared is not None:
        print(_said(look.compared, look.given.text))


ROWS: dict[str, Callable[[Figures], str]] = {
    "tokens": lambda one: f"{one.tokens:,}",
    "bytes per token": lambda one: f"{one.bytes_per_token:.3f}",
    "characters per token": lambda one: f"{one.characters_per_token:.3f}",
    "tokens per word": lambda one: f"{one.tokens_per_word:.3f}",
    "unknown tokens": lambda one: f"{one.unknown:,} ({100 * one.unknown_share:.2f}%)" if one.unknown else "none",
}


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _said(compared: Comparison, text: str) -> str:
    lines = compared.lines(text)
    share = f" ({100 * lines.changed / lines.lines:.1f}%)" if lines.lines else ""
    what = "ids" if compared.compared == "ids" else "pieces of text"
    return f"{lines.changed:,} of {lines.lines:,} lines{share} have other tokens; compared are their {what}"


def _print_json(look: _Look) -> None:
    import json
    from dataclasses import asdict

    given = look.given
    found: dict[str, Any] = {
        "text": {
            "name": given.name,
            "bytes": given.size,
            "counted_bytes": given.counted,
            "shown_bytes": len(look.data),
        },
        "tokenizers": [
            {
                "name": view.name,
                "vocab_size": view.vocab_size,
                "figures": one.row(),
                "tokens": [_row(token, look.data) for token in own],
            }
            for view, own, one in zip(look.views, look.cuts, look.figures, strict=True)
        ],
    }
    if look.compared is not None:
        found["lines"] = asdict(look.compared.lines(given.text)) | {"compared": look.compared.compared}
    said = json.dumps(found, ensure_ascii=False)
    print(_ACTING.sub(lambda character: f"\\u{ord(character[0]):04x}", said))


def _row(token: Token, data: bytes) -> dict[str, Any]:
    """``text`` where the token is whole characters, else ``bytes`` in hexadecimal."""
    own = data[token.start : token.stop]
    row: dict[str, Any] = {"id": token.id, "piece": token.piece, "start": token.start, "stop": token.stop}
    try:
        row["text"] = own.decode()
    except UnicodeDecodeError:
        row["bytes"] = own.hex()
    return row if token.kind == "text" else row | {"kind": token.kind}
