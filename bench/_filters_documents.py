"""Documents for the bench of filters: real ones, and ones changed so that every rule has work on both sides of it.

Real text is that of ``LMGRAFT_TEST_DATA`` where it is set, and of this Python's documentation and docstrings otherwise,
cut at paragraphs to between 1 and 10 kB. The same call makes the same documents.
"""

from __future__ import annotations

import ast
import gzip
import itertools
import json
import os
import random
import sysconfig
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

__all__ = ["documents", "real"]

#: Documents of each kind of change at least; two thirds of them and more break the rule.
OF_A_KIND = 170
#: The longest of all, more than 100,000 words each.
LONG = 115
#: Of the collected data, English conversations and instructions with answers.
TALKS = (
    "instruct/alpaca_en.jsonl.gz",
    "instruct/code_alpaca_2k.jsonl.gz",
    "instruct/dolly_hhrlhf.jsonl.gz",
    "instruct/gpteacher_codegen.jsonl.gz",
    "instruct/gpteacher_roleplay.jsonl.gz",
    "instruct/t0_multi_template.jsonl.gz",
    "preference/dpo_en.jsonl.gz",
    "preference/hh_harmless_base_test.jsonl.gz",
    "preference/kto_en.jsonl.gz",
)


def documents(count: int) -> list[dict[str, str]]:
    """``count`` rows of ``id`` and ``text``, changed and real ones mixed."""
    rng = random.Random(0)
    texts = real(count)
    texts = texts[: max(1, count - OF_A_KIND * len(CHANGES) - LONG)]
    rows = [{"id": f"real-{number}", "text": text} for number, text in enumerate(texts)]
    rows += [{"id": f"long-{number}", "text": _long(rng, rng.choice(texts))} for number in range(LONG)]
    for number, (name, change) in zip(range(count - len(rows)), itertools.cycle(CHANGES.items())):
        rows.append({"id": f"{name}-{number}", "text": change(rng, rng.choice(texts))})
    rng.shuffle(rows)
    return rows


def real(count: int) -> list[str]:
    """Up to ``count`` pieces of real text."""
    rng = random.Random(1)
    folder = os.environ.get("LMGRAFT_TEST_DATA")
    source = _collected(Path(folder)) if folder else _python()
    pieces = [piece for text in source for piece in _cut(text, rng)]
    rng.shuffle(pieces)
    return pieces[:count]


def _cut(text: str, rng: random.Random) -> Iterator[str]:
    """Paragraphs together until a size is reached, most sizes near 1 kB; no piece is longer than 10 kB."""
    piece: list[str] = []
    size, wanted = 0, 0.0
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        for start in range(0, len(paragraph), 9000):
            wanted = wanted or 1000 * 10 ** (rng.random() ** 3)
            piece.append(paragraph[start : start + 9000])
            size += len(piece[-1])
            if size >= wanted:
                yield "\n\n".join(piece)[:10_000]
                piece, size, wanted = [], 0, 0.0
    if size > 300:
        yield "\n\n".join(piece)[:10_000]


# --- where text is found ----------------------------------------------------------------------------------------------


def _collected(folder: Path) -> Iterator[str]:
    for file in sorted((folder / "corpus").rglob("*")):
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            for line in _bytes(file).split(b"\n"):
                text = json.loads(line).get("text") if line.strip() else None
                if isinstance(text, str):
                    yield text
        elif file.name.endswith((".txt", ".txt.gz")):
            yield _bytes(file).decode("utf-8", "replace")
    for name in TALKS:
        lines = _bytes(folder / name).split(b"\n")
        yield "\n\n".join("\n".join(map(str, json.loads(line).values())) for line in lines if line.strip())
    for file in sorted((folder / "html").rglob("*.html.gz")):
        page = _Page()
        page.feed(_bytes(file).decode("utf-8", "replace"))
        yield "\n\n".join(page.blocks)


def _bytes(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix == ".gz" else content


class _Page(HTMLParser):
    """All visible text of a page, menus too: what no extraction has cleaned."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "noscript")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "noscript"):
            self._hidden = max(0, self._hidden - 1)

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.blocks.append(data.strip())


def _python() -> Iterator[str]:
    from pydoc_data import topics

    yield from topics.topics.values()
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in file.parts:
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue
        found = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        told = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, found)]
        yield "\n\n".join(text for text in told if text)


# --- changes ----------------------------------------------------------------------------------------------------------


def _short(rng: random.Random, text: str) -> str:
    return " ".join(text.split()[: rng.randrange(20, 62)])


def _long(rng: random.Random, text: str) -> str:
    words = [word for word in text.split() if word.isalpha() and len(word) < 5] or ["word"]
    size = rng.randrange(99_950, 101_000)
    return "\n".join(" ".join(rng.choices(words, k=12)) + "." for _ in range(size // 12))


def _clipped(rng: random.Random, text: str) -> str:
    most = rng.choice((4, 5, 6))
    return " ".join(word[: rng.randrange(1, most)] for word in text.split())


def _merged(rng: random.Random, text: str) -> str:
    words, joined = text.split(), []
    while words:
        size = rng.choice((1, 2, 2, 3, 3))
        joined.append("".join(words[:size]))
        del words[:size]
    return " ".join(joined)


def _sprinkled(*marks: str, low: float, high: float) -> Callable[[random.Random, str], str]:
    """Marks after some words; the share of words lies between ``low`` and ``high``."""

    def change(rng: random.Random, text: str) -> str:
        share = rng.uniform(low, high)
        return " ".join(f"{word} {rng.choice(marks)}" if rng.random() < share else word for word in text.split(" "))

    return change


def _lined(before: str, after: str, low: float, high: float, words: int = 8) -> Callable[[random.Random, str], str]:
    """Lines of a few words, a share of them with something before or after them."""

    def change(rng: random.Random, text: str) -> str:
        share = rng.uniform(low, high)
        lines = _lines(text, words)
        return "\n".join(before + line + after if rng.random() < share else line for line in lines)

    return change


def _lines(text: str, words: int) -> list[str]:
    found = text.split()
    return [" ".join(found[start : start + words]) for start in range(0, len(found), words)] or [""]


def _numbers(rng: random.Random, text: str) -> str:
    share = rng.uniform(0.05, 0.35)
    return " ".join(str(rng.randrange(10_000)) if rng.random() < share else word for word in text.split())


def _unstopped(rng: random.Random, text: str) -> str:
    stop = {"the", "be", "to", "of", "and", "that", "have", "with"}
    left = set(rng.sample(sorted(stop), rng.randrange(4)))
    return " ".join(word for word in text.split() if word not in stop or word in left)


def _repeated(words: int, separator: str, low: float, high: float) -> Callable[[random.Random, str], str]:
    """Parts of a few words; a share of them come again somewhere."""

    def change(rng: random.Random, text: str) -> str:
        parts = _lines(text, words)
        share = rng.uniform(low, high)
        for _ in range(round(share * len(parts))):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        return separator.join(parts)

    return change


def _phrase(words: int, low: float, high: float) -> Callable[[random.Random, str], str]:
    """One phrase again and again, until it makes up a share of the text."""

    def change(rng: random.Random, text: str) -> str:
        found = text.split()
        start = rng.randrange(max(1, len(found) - words))
        phrase = " ".join(found[start : start + words])
        share = rng.uniform(low, high)
        for _ in range(int(share * len(text) / max(1, len(phrase)) / (1 - share))):
            found.insert(rng.randrange(len(found) + 1), phrase)
        return " ".join(found)

    return change


def _with_lines(*others: str, each: float = 0.1) -> Callable[[random.Random, str], str]:
    """Sentences on lines of their own, and other lines among them."""

    def change(rng: random.Random, text: str) -> str:
        lines = text.replace(". ", ".\n").split("\n")
        mixed = [line for own in lines for line in ([rng.choice(others), own] if rng.random() < each else [own])]
        return "\n".join([*mixed, rng.choice(others)])

    return change


def _few_sentences(rng: random.Random, text: str) -> str:
    return ". ".join(_lines(text, 14)[: rng.randrange(2, 9)]) + "."


def _blank(rng: random.Random, text: str) -> str:
    return rng.choice(("", " \n \n", "\n", "\t\n\u2003\n", "\u00a0"))


def _cited(rng: random.Random, text: str) -> str:
    marks = ("[1]", "[23]", "[]", "[edit]", "[citation needed]", "[note]")
    lines = [f"{line} and so on.{rng.choice(marks)}" for line in _lines(text, 12)]
    return "\n".join(f"{line} {rng.choice(marks)} " if rng.random() < 0.2 else line for line in lines)


CHANGES: dict[str, Callable[[random.Random, str], str]] = {
    "short": _short,
    "clipped": _clipped,
    "merged": _merged,
    "hashes": _sprinkled("#", low=0.05, high=0.25),
    "ellipses": _sprinkled("...", "…", low=0.05, high=0.25),
    "bullets": _lined("- ", "", 0.85, 1),
    "round_bullets": _lined(" • ", "", 0.85, 1),
    "end_ellipses": _lined("", "...", 0.2, 0.5),
    "numbers": _numbers,
    "unstopped": _unstopped,
    "paragraphs": _repeated(30, "\n\n", 0.2, 0.8),
    "lines": _repeated(9, "\n", 0.2, 0.8),
    "few_lines": _repeated(9, "\n", 0, 0.03),
    "pair": _phrase(2, 0.1, 0.35),
    "triple": _phrase(3, 0.1, 0.3),
    "four": _phrase(4, 0.1, 0.3),
    "six": _phrase(6, 0.05, 0.3),
    "eight": _phrase(8, 0.05, 0.25),
    "ten": _phrase(10, 0.03, 0.2),
    "twenty": _phrase(20, 0.03, 0.25),
    "chunks": _repeated(16, " ", 0.05, 0.25),
    "javascript": _with_lines(
        "Please enable JavaScript in your browser.", "Uses cookies for you, see the terms of use."
    ),
    "lorem": _with_lines("Lorem ipsum dolor sit amet.", "LOREM IPSUM is here with no stop", each=0),
    "bracket": _with_lines("function of x { return x } it says.", "{ a b c", each=0),
    "long_words": _with_lines("a " + "b" * 1000 + " c.", "a " + "b" * 1001 + " c."),
    "few_sentences": _few_sentences,
    "unpunctuated": _lined("", ".", 0, 0.25),
    "short_lines": _lined("", ".", 0.1, 0.5, words=5),
    "list": _lined("", ".", 0.1, 0.9, words=3),
    "blank": _blank,
    "cited": _cited,
}
