"""Encoded text on the page: how much there is of each split, and how long its documents are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lmgraft.artifacts import tokens
from lmgraft.artifacts.examples import bucket
from lmgraft.report.numbers import compact, count, size

__all__ = ["lengths", "packed"]

#: Documents whose lengths are read for the histogram, and how many at a time.
MOST, BLOCK = 1 << 24, 1 << 20
WIDTH, HEIGHT, LEFT, BASE = 640, 190, 8, 150

DASH = "–"


def lengths(folder: Path, split: str) -> dict[str, int]:
    """Histogram of a packed split: the most tokens of a bucket -> its documents. Reads the index only, 8 bytes a
    document, of the first 16.8 million of them."""
    file = tokens.TokenFile(folder / split)
    found: dict[int, int] = {}
    for first in range(0, min(file.documents, MOST), BLOCK):
        last = min(file.documents, MOST, first + BLOCK)
        sizes = np.diff(file.starts(np.arange(first, last + 1)))
        values, numbers = np.unique(sizes, return_counts=True)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            found[bucket(value)] = found.get(bucket(value), 0) + number
    return {str(edge): found[edge] for edge in sorted(found)}


def packed(stage: str, found: Mapping[str, Any], setting: Mapping[str, Any], encoder: str = "") -> dict[str, Any]:
    """What the page says of one stage of kind ``tokens``: ``tokens.json`` or ``rows.json`` with the histograms of
    ``lengths``, the stage's node of the recipe, and the library that encoded, where the run says it.

    Raises AttributeError, KeyError, TypeError or ValueError where they hold something else.
    """
    splits: Mapping[str, Any] = found["splits"]
    return {
        "stage": stage,
        "vocabulary": count(found["vocab_size"]),
        "tokenizer": str(setting.get("tokenizer") or ""),
        "encoder": "" if "objective" in found else encoder or _asked_for(setting),
        "objective": str((found.get("objective") or {}).get("part", "")),
        "fingerprint": str(found.get("fingerprint", ""))[:12],
        "rows": "bytes" not in next(iter(splits.values()), {"bytes": 0}),
        "splits": [_split(name, split) for name, split in splits.items()],
        "charts": [
            _chart(stage, name, shown)
            for name in splits
            if (shown := (found.get("lengths") or {}).get(name) or splits[name].get("lengths"))
        ],
    }


def _asked_for(setting: Mapping[str, Any]) -> str:
    """The library that the recipe names; ``auto`` names none."""
    name = str(setting.get("encoder") or "")
    return "" if name == "auto" else name


def _split(name: str, split: Mapping[str, Any]) -> dict[str, str]:
    number = max(1, split["tokens"])
    return {
        "name": name,
        "documents": count(split["documents"]),
        "tokens": count(split["tokens"]),
        "text": size(split["bytes"]) if "bytes" in split else DASH,
        "ratio": f"{split['bytes'] / number:.3f}" if "bytes" in split else DASH,
        "characters": f"{split['characters'] / number:.3f}" if "characters" in split else DASH,
        "mean": f"{split['tokens'] / max(1, split['documents']):,.0f}",
        "learnt": f"{100 * split['learnt'] / number:.1f}%" if "learnt" in split else DASH,
        "longest": count(split["longest"]) if "longest" in split else DASH,
    }


def _chart(stage: str, split: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of a histogram, a bucket each; empty buckets between full ones are drawn too."""
    full = {int(edge): int(number) for edge, number in found.items()}
    edges = [min(full)]
    while edges[-1] < max(full):
        edges.append(bucket(edges[-1] + 1))
    most, width = max(full.values()), (WIDTH - 2 * LEFT) / len(edges)
    name = escape(f"lengths-{stage}-{split}")
    said = "; ".join(f"up to {edge:,}: {full[edge]:,}" for edge in edges if full.get(edge))
    parts = [
        Markup(
            '<svg class="bars lengths" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">'
            '<title id="{}-title">Lengths in tokens, split {}</title><desc id="{}-desc">{}</desc>'
        ).format(WIDTH, HEIGHT, name, name, name, split, name, said)
    ]
    for place, edge in enumerate(edges):
        tall = 130 * full.get(edge, 0) / most
        left = LEFT + place * width
        bar = '<rect class="own" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        told = f"up to {edge:,} tokens: {full.get(edge, 0):,}"
        parts.append(Markup(bar).format(left + 1, BASE - tall, max(1.0, width - 2), tall, told))
        if len(edges) <= 14 or place % 2 == 0:
            label = '<text class="middle" x="{:.1f}" y="{}">{}</text>'
            parts.append(Markup(label).format(left + width / 2, BASE + 18, compact(edge)))
    parts.append(Markup("</svg>"))
    return {"split": split, "svg": Markup("").join(parts)}
