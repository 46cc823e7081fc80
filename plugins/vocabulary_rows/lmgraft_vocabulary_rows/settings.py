"""What ``config.json`` and ``generation_config.json`` say of the new vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lmgraft_vocabulary_rows.vocabulary import Exchange

__all__ = ["of_new_vocabulary"]

_IDS = re.compile(r"(^|_)token_(id|ids|index)$")
_BEGIN, _END, _PAD = "bos_token_id", "eos_token_id", "pad_token_id"


def of_new_vocabulary(config: Mapping[str, Any], words: Exchange) -> dict[str, Any]:
    """Every token's id as the new tokenizer has it (``bos_token_id`` ...); ids of tokens that are gone are left out.

    The beginning, the end and the padding are the tokenizer's own. Where several tokens end an answer, they all stay.
    """
    found = {}
    for key, value in config.items():
        if not _IDS.search(key) or value is None:
            found[key] = value
            continue
        moved = _moved(value, words)
        if moved is not None:
            found[key] = moved
    if "vocab_size" in config:
        found["vocab_size"] = len(words.rows)
    ends = found.get(_END)
    if config.get(_BEGIN) is not None:
        found[_BEGIN] = words.first_id
    several = isinstance(ends, list) and words.end_id in ends
    return found | {_END: ends if several else words.end_id, _PAD: words.pad_id}


def _moved(value: Any, words: Exchange) -> Any:
    if isinstance(value, list):
        return [words.moved[index] for index in value if index in words.moved]
    # -1 stands for no token in some files.
    return words.moved.get(value) if isinstance(value, int) and value >= 0 else value
