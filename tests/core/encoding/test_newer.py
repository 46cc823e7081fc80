"""Characters that gigatoken and the reference see with different eyes: the documents that hold one get the reference's
ids."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts._pieces import GPT2, LLAMA3, QWEN2
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.encoding.batches import TextBatch
from lmgraft.encoding.checking import Excerpt, compare
from lmgraft.encoding.engines import Gigatoken, Reference
from lmgraft.encoding.newer import NEWER, holding
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

CODES = [code for first, last in NEWER for code in range(first, last + 1)]


def batch(texts: list[str], before: bytes = b"") -> TextBatch:
    data = [text.encode() for text in texts]
    offsets = np.cumsum([len(before), *map(len, data)]).astype(np.int64)
    return TextBatch(np.frombuffer(before + b"".join(data), np.uint8), offsets, 0)


@pytest.fixture(scope="module", params=[GPT2, LLAMA3, QWEN2], ids=["gpt2", "llama3", "qwen2"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedTokenizer:
    """Merges that join a letter, a digit or a mark with any byte: they show where words end."""
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    joined = [pair for one in "a1!" for byte in alphabet for pair in ((one, byte), (byte, one))]
    pieces = dict.fromkeys([*alphabet, *("".join(pair) for pair in joined)])
    made = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, list(dict.fromkeys(joined))))
    words = pre_tokenizers.Split(Regex(request.param), "isolated")
    steps = [words, pre_tokenizers.ByteLevel(False, use_regex=False)]
    made.pre_tokenizer = pre_tokenizers.ByteLevel(False) if request.param == GPT2 else pre_tokenizers.Sequence(steps)
    if request.param == QWEN2:
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|pad|>"])
    made.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    loaded = tokenizers.load(folder)
    assert isinstance(loaded, SavedTokenizer)
    return loaded


def test_each_of_them_has_the_ids_of_the_reference(saved: SavedTokenizer) -> None:
    pytest.importorskip("gigatoken")
    signs = [chr(code) for code in CODES]
    texts = [f"a{sign}a 1{sign}1 !{sign}! \u0301{sign}\u0323{sign}\u0345{sign}" for sign in signs]
    plain = [f"a document {number} of its own" for number in range(len(texts))]
    mixed = [text for pair in zip(plain, texts, strict=True) for text in pair]
    compare(Reference(saved), Gigatoken(saved), [Excerpt("train", n, text) for n, text in enumerate(mixed)])


def test_without_them_gigatoken_is_asked_alone(saved: SavedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gigatoken")
    engine = Gigatoken(saved)
    monkeypatch.delattr(Reference, "encode_texts")
    assert len(engine.encode(batch(["plain ünïcode 漢字 👍🏽", "ß"]))[1]) == 3
    with pytest.raises(AttributeError):
        engine.encode(batch(["a", "\u088f"]))


@given(
    texts=st.lists(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from([*map(chr, CODES), *"aé漢👍"])))),
    before=st.binary(max_size=5),
)
def test_documents_that_hold_one_are_found(texts: list[str], before: bytes) -> None:
    known = set(map(chr, CODES))
    expected = [number for number, text in enumerate(texts) if known & set(text)]
    assert holding(batch(texts, before)).tolist() == expected


def test_a_long_text_is_looked_through() -> None:
    texts = ["a" * 300_000, "é" * 200_000 + "\u07fd", "漢" * 100_000, "👍" * 70_000 + "\U000323b0" + "b" * 300_000]
    assert holding(batch(texts)).tolist() == [1, 3]


def test_stretches_ascend_and_hold_no_common_character() -> None:
    edges = [edge for stretch in NEWER for edge in stretch]
    assert edges == sorted(edges)
    old = unicodedata.ucd_3_2_0
    assert all(old.category(chr(code)) == "Cn" for code in CODES)
