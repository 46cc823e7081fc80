"""Split patterns: known ones are split as the library does, others refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_vocabularies.patterns import KNOWN, check_pattern, is_byte_level, splitter_of
from tokenizers import Regex, pre_tokenizers

GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def content(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(nodes)}}


def split(regex: str, **more: Any) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False, **more}


def _shown() -> list[str]:
    draw = random.Random(4)
    ranges = [(0x20, 0x250), (0x370, 0x590), (0x2000, 0x2070), (0x4E00, 0x4E80), (0x660, 0x66A), (0, 0x20)]
    mixed = ["".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(20)) for _ in range(200)]
    return [*mixed, *NASTY, *texts(40, seed=5), "it's I'LL we've  two\n\n \r\n x\x1cy\x85z 1234567 \u2028 a"]


@pytest.mark.parametrize("name", KNOWN)
def test_words_are_those_of_the_library(name: str) -> None:
    own = splitter_of(content(GPT2) if name == "gpt-2" else content(split(KNOWN[name]), LEVEL))
    assert own is not None
    library = pre_tokenizers.Split(Regex(KNOWN[name]), "isolated")
    for text in _shown():
        assert own(text) == [word for word, _ in library.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    "unknown",
    [
        content(split(r"\p{N}{1,2}|\p{L}+|."), LEVEL),
        content(split(KNOWN["qwen2"], behavior="MergedWithNext"), LEVEL),
        content(split(KNOWN["qwen2"]), GPT2),
        content({**GPT2, "add_prefix_space": True}),
        content(LEVEL),
    ],
)
def test_unknown_patterns_are_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="any_pattern=true") as caught:
        check_pattern(unknown, Path("some.json"))
    assert len(str(caught.value).splitlines()) == 3
    assert splitter_of(unknown) is None


def test_what_is_not_byte_level_has_no_pattern_to_check() -> None:
    other = {"model": {"type": "WordPiece"}, "pre_tokenizer": {"type": "BertPreTokenizer"}}
    assert not is_byte_level(other)
    check_pattern(other, Path("some.json"))
