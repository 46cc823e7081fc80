"""Hugging Face's ``tokenizers`` on files of strangers: whatever it makes of them ends as a user's error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError
from tokenizers import Tokenizer

__all__ = ["opened"]

_BLOCK = 4096


def opened(content: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer that ``content`` describes, ready to encode text as text.

    Raises :class:`~lmgraft.errors.UserError` where the library refuses it, or a table in it leads nowhere.
    """
    try:
        tokenizer = Tokenizer.from_str(json.dumps(content))
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if "Precompiled" in json.dumps(content.get("normalizer")):
            _try_all_characters(tokenizer)
        tokenizer.encode("a b", add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics derive from BaseException
        cause = f"the library cannot read it: {error}"
        raise UserError(Problem(f"{path} is no sound tokenizer", cause, "copy or download it again")) from error
    return tokenizer


def _try_all_characters(tokenizer: Tokenizer) -> None:
    """A damaged table of characters fails where it is looked up, which should not be in the middle of a corpus."""
    for start in range(0, 0x110000, _BLOCK):
        block = "".join(chr(code) for code in range(start, start + _BLOCK) if not 0xD800 <= code < 0xE000)
        tokenizer.normalizer.normalize_str(block)
