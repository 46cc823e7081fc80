"""What a tokenizer puts before a text by itself, told in one place: the post-processor of tokenizer.json.

Files say it twice, and readers do not agree on which counts: ``add_bos_token`` of tokenizer_config.json is obeyed by
transformers 4 in some classes and passed over by transformers 5 where there is a tokenizer.json. So the post-processor
is made to say what the setting says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft.artifacts.tokenizer import first_of

__all__ = ["first_token", "settle", "told_by"]

#: Classes of transformers that begin texts with ``bos_token`` unless they are told not to.
_BEGINNING = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")


def told_by(config: Mapping[str, Any], *, model_alone: bool) -> bool | None:
    """Whether ``tokenizer_config.json`` wants ``bos_token`` before a text; None where it does not say.

    :param model_alone: there is no tokenizer.json, whose post-processor would say it.
    """
    told = config.get("add_bos_token")
    if isinstance(told, bool):
        return told
    known = str(config.get("tokenizer_class", "")).removesuffix("Fast") in _BEGINNING
    return True if model_alone and known else None


def settle(content: dict[str, Any], told: bool | None, token: str | None, ids: Mapping[str, int]) -> None:
    """Lets the post-processor put ``token`` before a text, or nothing, where ``told`` says so and it does otherwise."""
    if told is True and token in ids and first_of(content, {}) != ids[token]:
        begin = {"SpecialToken": {"id": token, "type_id": 0}}
        text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [begin, text[0]],
            "pair": [begin, *text],
            "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]}},
        }
    elif told is False and first_of(content, {}) is not None:
        content["post_processor"] = None


def first_token(content: Mapping[str, Any], ids: Mapping[str, int]) -> str | None:
    """The token that the post-processor puts before a text."""
    first = first_of(content, {})
    return None if first is None else next((token for token, index in ids.items() if index == first), None)
