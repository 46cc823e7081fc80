"""The three split patterns, as their models ship them, and what a vocabulary with each is refused for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as saved_tokenizers
from lmgraft.chat import TEMPLATES
from lmgraft.errors import UserError
from lmgraft.testing.composing import compose_part
from lmgraft_byte_bpe.plugin import ByteBPEConfig, Pattern
from lmgraft_byte_bpe.tokenizer import ByteBPE, splitter

TEXTS = ["It's 1234567 things.\r\n\r\n  Two  SHE'LL\n\n\t(so)\u00a0x \u6f22\u5b57, e\u0301! "] * 40

#: Splits of one text by hand, from the patterns' definitions.
TEXT = "SHE'LL've 12345 a\n\n\n  b!!\r\n\u00a0c'd (e"
_AFTER = [" a", "\n\n\n", " ", " b", "!!\r\n", "\u00a0c", "'d", " (", "e"]
SPLITS = {
    Pattern.gpt2: [
        *("SHE", "'", "LL", "'ve", " 12345", " a", "\n\n\n ", " b", "!!", "\r\n", "\u00a0", "c", "'d", " (", "e"),
    ],
    Pattern.llama3: ["SHE", "'LL", "'ve", " ", "123", "45", *_AFTER],
    Pattern.qwen2: ["SHE", "'LL", "'ve", " ", *"12345", *_AFTER],
}


def made(folder: Path, **values: Any) -> Path:
    part = ByteBPE(ByteBPEConfig(vocab_size=400, **values))
    part.train(TEXTS)
    part.save(folder)
    return folder


@pytest.mark.parametrize("pattern", list(Pattern))
def test_splits_by_hand(pattern: Pattern) -> None:
    offsets = [span for _, span in splitter(pattern).pre_tokenize_str(TEXT)]
    assert [TEXT[start:stop] for start, stop in offsets] == SPLITS[pattern]


@pytest.mark.parametrize("pattern", list(Pattern))
def test_regex_module_splits_the_same(pattern: Pattern, tmp_path: Path) -> None:
    """The pattern that the file names, by another engine."""
    regex = pytest.importorskip("regex")
    content = json.loads((made(tmp_path, pattern=pattern) / "tokenizer.json").read_text())["pre_tokenizer"]
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    found = gpt2 if pattern is Pattern.gpt2 else content["pretokenizers"][0]["pattern"]["Regex"]
    for text in [*TEXTS[:1], TEXT, " \n \n\n x", "12a3", "''s 'S", "\u0664\u0665\u0666\u0667 \u00bd", "a\r\rb"]:
        offsets = [span for _, span in splitter(pattern).pre_tokenize_str(text)]
        assert [text[start:stop] for start, stop in offsets] == regex.findall(found, text)


def test_shape_of_the_files(tmp_path: Path) -> None:
    shapes = {}
    for pattern in Pattern:
        folder = made(tmp_path / pattern.value, pattern=pattern)
        shapes[pattern] = json.loads((folder / "tokenizer.json").read_text())
    assert shapes[Pattern.gpt2]["pre_tokenizer"]["type"] == "ByteLevel"
    for pattern in (Pattern.llama3, Pattern.qwen2):
        split, level = shapes[pattern]["pre_tokenizer"]["pretokenizers"]
        assert (split["type"], split["behavior"], split["invert"]) == ("Split", "Isolated", False)
        assert (level["type"], level["use_regex"], level["add_prefix_space"]) == ("ByteLevel", False, False)
    assert [shapes[pattern]["model"]["ignore_merges"] for pattern in Pattern] == [False, True, False]
    assert all(shape["normalizer"] is None for shape in shapes.values())


def test_gigatoken_gives_the_same_ids(tmp_path: Path) -> None:
    gigatoken = pytest.importorskip("gigatoken")
    for pattern in Pattern:
        folder = made(tmp_path / pattern.value, pattern=pattern)
        theirs = gigatoken.Tokenizer(str(folder / "tokenizer.json"))
        given = [TEXT, *TEXTS[:1], "e\u0301 \U0001f468\u200d\U0001f469 \ufeff", "  \n x"]
        found = [list(map(int, ids)) for ids in theirs.encode_batch_list(given)]
        assert found == saved_tokenizers.load(folder).encode_batch(given)


def test_an_unknown_pattern_is_refused_when_it_is_composed(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        compose_part("tokenizer", "byte_bpe", {"pattern": "gpt4o"}, tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(name in "".join(lines) for name in ("gpt4o", "gpt2", "llama3", "qwen2"))


def test_special_tokens_and_template_are_in_the_files(tmp_path: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>"]
    made(tmp_path, special_tokens=special, chat_template="chatml")
    loaded = saved_tokenizers.load(tmp_path)
    assert loaded.chat_template == TEMPLATES["chatml"]
    (ids,) = loaded.encode_batch(["<|im_start|>user<|im_end|><|endoftext|><|pad|>"])
    assert min(ids) > 3
    assert loaded.decode([2, *ids, 3], skip_special=True) == loaded.decode(ids)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("<|im_start|>a<|im_end|>")["input_ids"][::2] == [2, 3]
    assert theirs.decode([2, *ids, 3], skip_special_tokens=True) == loaded.decode(ids)
    chat = [{"role": "user", "content": "It's"}]
    assert "<|im_start|>user" in theirs.apply_chat_template(chat, tokenize=False)


def test_longest_token(tmp_path: Path) -> None:
    for length in (None, 3):
        folder = made(tmp_path / str(length), max_token_length=length)
        longest = max(saved_tokenizers.load(folder).token_bytes())
        assert longest <= length if length else longest > 5


@pytest.mark.parametrize("texts", [[], [""], ["a\ud800"], ["x" * (1 << 21)]])
def test_what_cannot_be_learnt_from_is_refused(texts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        ByteBPE(ByteBPEConfig()).train(texts)
    assert len(str(caught.value).splitlines()) == 3


def test_the_alphabet_and_special_tokens_fit() -> None:
    assert list(ByteBPEConfig(vocab_size=259, special_tokens=["<|a|>"]).check()) == []
    (problem,) = ByteBPEConfig(vocab_size=258, special_tokens=["<|a|>"]).check()
    assert "256 bytes and 3 special tokens" in problem
