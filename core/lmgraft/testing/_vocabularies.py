"""Changes a saved vocabulary behind its tokenizer's back: does the fingerprint see it?"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import tokenizer as saved
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["remapped"]

#: Entries that a list or a mapping has at least, to be taken for a vocabulary.
_LEAST = 16


def remapped(folder: Path, scratch: Path, told: Sequence[Sequence[int]]) -> dict[str, TextTokenizer]:
    """For each vocabulary in a JSON file of ``folder``: a tokenizer in which the two ids that are most frequent in
    ``told`` have changed places. Those that cannot be read any more are left out: a part may find out by itself."""
    counts = Counter(index for ids in told for index in ids)
    if len(counts) < 2:
        return {}
    (first, _), (second, _) = counts.most_common(2)
    found: dict[str, TextTokenizer] = {}
    for name in saved.names(folder):
        content = _json(folder / name)
        for number, vocabulary in enumerate(_vocabularies(content)):
            if not _swap(vocabulary, first, second):
                continue
            changed = scratch / f"changed {len(found)}"
            shutil.rmtree(changed, ignore_errors=True)
            shutil.copytree(folder, changed)
            (changed / name).write_text(json.dumps(content), encoding="utf-8")
            _swap(vocabulary, first, second)
            try:
                found[f"{name} with two ids changed over ({number})"] = saved.load(changed)
            except Exception:  # damaged to this part, which is as good an answer
                continue
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None


def _vocabularies(node: Any) -> Iterator[Any]:
    """Mappings of pieces to distinct ids, and lists of pieces, anywhere in a JSON value."""
    if isinstance(node, dict):
        ids = list(node.values())
        if len(ids) >= _LEAST and all(type(index) is int for index in ids) and len(set(ids)) == len(ids):
            yield node
            return
        for value in ids:
            yield from _vocabularies(value)
    elif isinstance(node, list):
        if len(node) >= _LEAST and all(isinstance(piece, str) for piece in node) and len(set(node)) == len(node):
            yield node
            return
        for value in node:
            yield from _vocabularies(value)


def _swap(vocabulary: Any, first: int, second: int) -> bool:
    """Changes two ids over in place; whether both were there."""
    if isinstance(vocabulary, list):
        if max(first, second) >= len(vocabulary):
            return False
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        return True
    pieces = {index: piece for piece, index in vocabulary.items()}
    if first not in pieces or second not in pieces:
        return False
    vocabulary[pieces[first]], vocabulary[pieces[second]] = second, first
    return True
