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
    """For each vocabulary in a JSON file of ``folder``: a tokenizer whose ids are given to other pieces.

    In a mapping of pieces to ids, the two that are most frequent in ``told`` change places; elsewhere the order is
    turned round. Vocabularies that cannot be read any more are left out: a part may find out by itself.
    """
    common = [index for index, _ in Counter(index for ids in told for index in ids).most_common(2)]
    found: dict[str, TextTokenizer] = {}
    for name in saved.names(folder):
        for number in range(len(list(_vocabularies(_json(folder / name))))):
            content = _json(folder / name)
            _permute(list(_vocabularies(content))[number], common)
            changed = scratch / f"changed {name.replace('/', ' ')} {number}"
            shutil.rmtree(changed, ignore_errors=True)
            shutil.copytree(folder, changed)
            (changed / name).write_text(json.dumps(content), encoding="utf-8")
            try:
                found[f"ids of {name} given to other pieces"] = saved.load(changed)
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


def _permute(vocabulary: Any, common: Sequence[int]) -> None:
    """Gives ids to other pieces, in place."""
    if isinstance(vocabulary, list):
        vocabulary.reverse()
        return
    pieces = {index: piece for piece, index in vocabulary.items()}
    if len(common) == 2 and set(common) <= set(pieces):
        first, second = common
        vocabulary[pieces[first]], vocabulary[pieces[second]] = second, first
        return
    for piece, index in zip(list(vocabulary), list(vocabulary.values())[::-1], strict=True):
        vocabulary[piece] = index
