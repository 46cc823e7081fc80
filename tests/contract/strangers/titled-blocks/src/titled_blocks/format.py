"""The format, both ways. A block is headers, ``Title`` first, and lines of text with two spaces before each::

    Title: The otter
    Lang: en
      First line of the text.

      A line after an empty one.

A line without anything in it counts as an empty line of the text where another line of the text follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

INDENT = "  "


class FormatError(ValueError):
    """A line that does not fit: its number and what is wrong with it."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


@dataclass
class Block:
    headers: dict[str, str]
    line: int
    body: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.body)


def parse(lines: Iterable[str]) -> Iterator[Block]:
    """The blocks of a file's lines, in order."""
    block: Block | None = None
    empty = 0
    for number, raw in enumerate(lines, start=1):
        line = raw.removesuffix("\n")
        if line.startswith(INDENT):
            if block is None:
                raise FormatError(number, "text before the first Title:")
            block.body += [""] * empty
            block.body.append(line[len(INDENT) :])
            empty = 0
        elif not line:
            # Only between lines of text does it belong to the text.
            empty += bool(block and block.body)
        else:
            name, colon, value = line.partition(":")
            if not colon:
                raise FormatError(number, f"neither a header nor text, which begins with two spaces: {line[:40]!r}")
            if name == "Title":
                if block is not None:
                    yield block
                block, empty = Block({"title": value.strip()}, number), 0
            elif block is None:
                raise FormatError(number, f"the header {name!r} before the first Title:")
            elif block.body:
                raise FormatError(number, f"the header {name!r} after the text began; a new block begins with Title:")
            else:
                block.headers[name.lower()] = value.strip()
    if block is not None:
        yield block


def write_block(out: TextIO, text: str, **headers: str) -> None:
    for name, value in headers.items():
        out.write(f"{name.capitalize()}: {value}\n")
    if text:
        out.writelines(f"{INDENT}{line}\n" for line in text.split("\n"))
    out.write("\n")
