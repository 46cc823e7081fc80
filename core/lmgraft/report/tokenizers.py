"""A tokenizer on the page: what it makes of every source and language, passages as tokens, pieces, and what changed.

The keys are those of :mod:`lmgraft.stages._tokenizer_measure`; an older artifact lacks some, and has its page too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lmgraft.report.numbers import count, size
from lmgraft.tokenview import markup
from lmgraft.tokenview.comparing import differing
from lmgraft.tokenview.view import Token

__all__ = ["changed_lines", "tokenizer"]

#: Changed lines on the page; all of them stand in the artifact.
LINES = 20
#: Tokens of a changed line on the page.
LINE_TOKENS = 200

DASH = "–"


def changed_lines(path: Path) -> list[str]:
    """The first lines of ``changed.jsonl``, unread; one that is longer than a page can bear is left out."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as stream:
        found = [line for line, _ in zip(stream, range(LINES), strict=False)]
    return [line for line in found if len(line) < 1 << 16]


def tokenizer(stage: str, files: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of one tokenizer stage. ``files``: the JSON of ``measure``, ``sample`` and ``look``, and the
    rows of ``changed``.

    Raises AttributeError, KeyError, TypeError or ValueError where they hold something else.
    """
    measure, base = files["measure"], files["measure"].get("base")
    return {
        "stage": stage,
        "vocabulary": count(measure["vocab_size"]),
        "base": _base(measure, base) if base else None,
        "tables": list(_tables(measure)),
        "passages": [_passage(passage) for passage in (files.get("look") or {}).get("passages", ())],
        "pieces": _pieces(measure.get("pieces")),
        "changed": [_changed(row) for row in files.get("changed") or ()],
        "learnt": _learnt(files.get("sample")),
    }


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(measure: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, title in (("languages", "Language or script"), ("sources", "Source")):
        groups: Mapping[str, Any] = measure.get(key) or {}
        longest = max((_ratio(group) for group in groups.values()), default=0.0)
        rows = [_row(name, group, longest) for name, group in groups.items()]
        if len(rows) > 1:
            rows.append(_row("all", measure, longest))
        if rows:
            yield {"title": title, "rows": rows, "compared": any(row["before"] != DASH for row in rows)}


def _ratio(group: Mapping[str, Any]) -> float:
    return float(group["bytes"]) / max(1, int(group["tokens"]))


def _row(name: str, group: Mapping[str, Any], longest: float) -> dict[str, str]:
    tokens = max(1, group["tokens"])
    base, changed = group.get("base"), group.get("changed") or {}
    before = float(base["bytes"]) / max(1, base["tokens"]) if base and base.get("tokens") else 0.0
    return {
        "name": name,
        "split": str(group.get("split", "")),
        "bytes": size(group["bytes"]),
        "ratio": f"{_ratio(group):.3f}",
        "bar": f"{min(100.0, 100 * _ratio(group) / (longest or 1)):.1f}%",
        "words": f"{group['tokens'] / group['words']:.2f}" if group.get("words") else DASH,
        "characters": f"{group['characters'] / tokens:.2f}" if "characters" in group else DASH,
        "unknown": _share(group["unknown"] / tokens) if group.get("unknown") else "0",
        "before": f"{before:.3f}" if before else DASH,
        "fewer": _moved(group["tokens"], base["tokens"]) if base and before else DASH,
        "documents": _part(changed.get("documents")),
        "lines": _part(changed.get("lines")),
        "text": _part(changed.get("bytes")),
    }


def _share(share: float) -> str:
    return f"{100 * share:.1f}%" if share >= 0.0005 or not share else "<0.1%"


def _moved(now: int, before: int) -> str:
    return f"{100 * (now / before - 1):+.1f}%".replace("-0.0%", "0.0%").replace("+0.0%", "0.0%")


def _part(found: Mapping[str, Any] | None) -> str:
    if not found:
        return DASH
    return _share(found["changed"] / max(1, found["of"])) if found["changed"] else "none"


def _base(measure: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, str]:
    lines = (measure.get("changed") or {}).get("lines") or {"changed": 0, "of": 0}
    kept = "every id of it is kept" if base.get("kept") else "its ids are not kept"
    return {
        "vocabulary": count(base["vocab_size"]),
        "kept": kept,
        "lines": f"{count(lines['changed'])} of {count(lines['of'])}",
        "compared": "ids" if base.get("compared") == "ids" else "pieces of text",
    }


# --- text -------------------------------------------------------------------------------------------------------------


def _passage(passage: Mapping[str, Any]) -> dict[str, Any]:
    data = str(passage["text"]).encode("utf-8", "replace")
    now = _tokens(passage["tokens"])
    before = _tokens(passage["base"]) if "base" in passage else []
    return {
        "source": str(passage.get("source", "")),
        "language": str(passage.get("language", "")),
        "document": str(passage.get("document", "")),
        "tokens": count(len(now)),
        "now": markup.draw(now, data, differing(now, before, data) if before else ()),
        "before": markup.draw(before, data, differing(before, now, data)) if before else None,
        "before_tokens": count(len(before)),
    }


def _tokens(rows: Sequence[Sequence[Any]]) -> list[Token]:
    return [Token(int(row[0]), str(row[1]), int(row[2]), int(row[3]), *map(str, row[4:5])) for row in rows]


def _changed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "where": f"{row['document']}, line {row['line']}",
        "before": _line(row["before"]),
        "after": _line(row["after"]),
    }


def _line(pieces: Sequence[str]) -> Markup:
    rest = len(pieces) - LINE_TOKENS
    shown = markup.pieces([str(piece) for piece in pieces[:LINE_TOKENS]])
    return shown + (Markup(" … {} more").format(count(rest)) if rest > 0 else Markup(""))


def _pieces(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        "longest": [_piece(row, f"{count(row[2])} bytes") for row in found["longest"]],
        "top": [_piece(row, f"{count(row[2])} times") for row in found["top"]],
        "unused": count(found["unused"]),
        "of": count(found["of"]),
        "share": _share(found["unused"] / max(1, found["of"])),
        "first": [_piece(row, "never used") for row in found["unused_first"]],
    }


def _piece(row: Sequence[Any], told: str) -> tuple[Markup, str]:
    return markup.pieces([str(row[1])]), f"id {row[0]}, {told}"


def _learnt(sample: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not sample:
        return None
    return {
        "bytes": size(sample["bytes"]),
        "of": size(sample["of_bytes"]),
        "rule": str(sample["rule"]),
        "sources": [
            (name, f"{size(source['bytes'])} in {count(source['pieces'])} pieces", size(source["of_bytes"]))
            for name, source in sample["sources"].items()
        ],
    }
