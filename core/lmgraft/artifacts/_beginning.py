"""The token that a tokenizer puts before a text by itself: ``<s>`` of LLaMA's and Mistral's, nothing in GPT-2's.

Models that were trained with it are much worse without. It is what the post-processor of ``tokenizer.json`` writes
before a text, unless ``tokenizer_config.json`` says otherwise (``add_bos_token``). That a ``bos_token`` is named says
nothing: BLOOM has one that its tokenizer never writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from lmgraft.artifacts._tokenizer_files import content as written

__all__ = ["first_of"]

#: A vocabulary of one token, which a post-processor is tried on: what stands before it is no text.
_PROBE = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}


def first_of(content: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The id that a tokenizer puts before every text; None where it puts none there, or several.

    :param content: of ``tokenizer.json``.
    :param config: of ``tokenizer_config.json``. Its ``add_bos_token`` decides where it is true (and there is a
        ``bos_token``) or false; else the post-processor does.
    :raises ValueError: the library cannot read the post-processor.
    """
    told = config.get("add_bos_token")
    if told is False:
        return None
    named = _id_of(content, written(config.get("bos_token"))) if told is True else None
    return _before_text(content.get("post_processor")) if named is None else named


def _id_of(content: Mapping[str, Any], token: Any) -> int | None:
    for one in content.get("added_tokens") or ():
        if one["content"] == token:
            return int(one["id"])
    vocab = content["model"].get("vocab") or {}
    if isinstance(vocab, Mapping):
        found = vocab.get(token)
        return None if found is None else int(found)
    return next((index for index, entry in enumerate(vocab) if entry[0] == token), None)


def _before_text(post_processor: Any) -> int | None:
    if post_processor is None:
        return None
    try:
        encoding = Tokenizer.from_str(json.dumps({"model": _PROBE, "post_processor": post_processor})).encode("a")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics derive from it: a template with a token that it lists nowhere
        raise ValueError(f"post_processor: {error}") from error
    marks: list[int] = encoding.special_tokens_mask
    return int(encoding.ids[0]) if marks[:2] == [1, 0] else None
