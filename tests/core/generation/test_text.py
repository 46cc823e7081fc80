"""Text from ids, piece by piece: equal to decoding at once, whatever the decoder; stop strings cut as on the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.generation.text import UNKNOWN, Detokenizer, Ending, StopStrings, TextStream
from lmgraft.testing.inputs import byte_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = ["the cat sat on the mat ", "naïve café 漢字かな 🙂👩‍🚀 ", "\n\n  def f(x):\n\treturn x ", "Привет, мир! "] * 4


class Plain:
    """What a detokenizer needs of a tokenizer, counting how much it is asked to decode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.asked: list[int] = []

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        self.asked.append(len(ids))
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special))


def byte_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def sentencepiece(decoder: Any) -> Callable[[], Tokenizer]:
    """As Llama's: a leading space is part of a token, and bytes stand for characters that have no token."""

    def make() -> Tokenizer:
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        pieces = [
            "<unk>",
            *bytes_,
            "▁",
            *sorted({c for text in TEXTS[:1] for c in text if c != " "}),
            "▁t",
            "▁th",
        ]
        merges = [("▁", "t"), ("▁t", "h")]
        vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        tokenizer.decoder = decoder
        return tokenizer

    return make


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    )
    return tokenizer


LLAMA = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
GEMMA = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
MADE = {
    "byte-level BPE": byte_bpe(),
    "SentencePiece as Llama has it": sentencepiece(LLAMA)(),
    "SentencePiece by Metaspace": sentencepiece(GEMMA)(),
    "WordPiece": wordpiece(),
}


def streamed(tokenizer: Plain, ids: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)  # type: ignore[arg-type]
    return [*(detokenizer.feed(token) for token in ids), detokenizer.finish()]


@pytest.mark.parametrize("kind", MADE)
@given(text=st.text(max_size=60) | st.lists(st.sampled_from(TEXTS), max_size=5).map("".join))
@settings(max_examples=150, deadline=None)
def test_the_pieces_of_a_text_are_the_text(kind: str, text: str) -> None:
    tokenizer = Plain(MADE[kind])
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@given(ids=st.lists(st.integers(0, 399), max_size=80) | st.lists(st.integers(100, 260), max_size=200))
@settings(max_examples=300, deadline=None)
def test_whatever_a_byte_level_model_writes_it_is_what_decoding_at_once_gives(ids: list[int]) -> None:
    tokenizer = Plain(MADE["byte-level BPE"])
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@given(ids=st.lists(st.integers(0, 280), max_size=60))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_text_cost_a_sentencepiece_model_no_other_text(ids: list[int]) -> None:
    tokenizer = Plain(MADE["SentencePiece as Llama has it"])
    at_once = tokenizer.decode(ids)
    pieces = "".join(streamed(tokenizer, ids))
    if UNKNOWN not in at_once:
        assert pieces == at_once
    known = [character for character in at_once if character != UNKNOWN and character.isascii() and character != "\0"]
    rest = iter(pieces)
    assert all(character in rest for character in known if character.isprintable())


@pytest.mark.parametrize("kind", MADE)
def test_the_work_per_token_does_not_grow(kind: str) -> None:
    tokenizer = Plain(MADE[kind])
    text = " ".join(TEXTS) * 20
    streamed(tokenizer, tokenizer.tokenizer.encode(text, add_special_tokens=False).ids)
    assert max(tokenizer.asked) <= 40
    tokenizer.asked.clear()
    streamed(tokenizer, [131] * 2000)
    assert max(tokenizer.asked) <= 40


@pytest.mark.parametrize("period", [[131], [0xE6 - 66, 131], [131, 131, 140, 199, 250]], ids=str)
def test_a_long_run_of_no_characters_is_told_whole(period: list[int]) -> None:
    tokenizer = Plain(MADE["byte-level BPE"])
    ids = [*period * 60, *tokenizer.tokenizer.encode("é, 漢").ids, *period * 40]
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_character_is_told_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    ids = tokenizer.encode_batch(["a漢🙂b"])[0]
    assert streamed(tokenizer, ids) == [  # type: ignore[arg-type]
        "a", "", "", "漢", "", "", "", "🙂", "b", ""
    ]  # fmt: skip
    assert streamed(tokenizer, ids[:3])[-1] == UNKNOWN  # type: ignore[arg-type]


def test_ids_without_a_token_say_nothing() -> None:
    tokenizer = Plain(MADE["byte-level BPE"])
    ids = tokenizer.tokenizer.encode("so it goes").ids
    mixed = [9999] * 40 + [token for one in ids for token in (one, 9999, 9999)]
    assert "".join(streamed(tokenizer, mixed)) == "so it goes"
    assert max(tokenizer.asked) <= 40


# --- stop strings -----------------------------------------------------------------------------------------------------


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Letter by letter, the plainest way: the first beginning of the text that ends with a stop string."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


ABC = st.text("ab\n#", max_size=24)
STOPS = st.lists(st.text("ab\n#", min_size=1, max_size=5), max_size=4)


@given(pieces=st.lists(st.text("ab\n#", max_size=5), max_size=12), stops=STOPS)
@settings(max_examples=500, deadline=None)
def test_a_text_is_cut_where_the_whole_text_would_be(pieces: list[str], stops: list[str]) -> None:
    stream = StopStrings(stops)
    told = [stream.feed(piece) for piece in pieces]
    assert ("".join([*told, stream.finish()]), stream.found) == cut("".join(pieces), stops)


@given(text=ABC, stops=STOPS)
@settings(max_examples=200, deadline=None)
def test_no_more_is_held_back_than_may_become_a_stop_string(text: str, stops: list[str]) -> None:
    stream = StopStrings(stops)
    told = "".join(stream.feed(letter) for letter in text)
    held = text[len(told) :]
    assert stream.found or not held or any(stop.startswith(held) for stop in stops)


def test_an_empty_stop_string_is_a_fault() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopStrings(["a", ""])


# --- a text to its end ------------------------------------------------------------------------------------------------


@given(text=st.text(max_size=30), stops=st.lists(st.text(min_size=1, max_size=3), max_size=3), limit=st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_stop_strings_across_tokens_and_reasons(text: str, stops: list[str], limit: int) -> None:
    tokenizer = Plain(MADE["byte-level BPE"])
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids[:limit] or [0]
    stream = TextStream(tokenizer, Ending((), tuple(stops)))  # type: ignore[arg-type]
    told = ""
    for number, token in enumerate(ids, 1):
        told += stream.feed(token, last=number == len(ids))
        if stream.reason:
            break
    expected, found = cut(tokenizer.decode(ids), stops)
    assert (told, stream.reason) == (expected, "stop" if found else "length")
    assert stream.tokens <= len(ids)


def test_a_stop_id_ends_and_is_not_told(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    a, b = tokenizer.encode_batch(["ab"])[0]
    stream = TextStream(tokenizer, Ending((tokenizer.end_id,), ("bc",)))
    assert [stream.feed(a), stream.feed(b), stream.feed(tokenizer.end_id)] == ["a", "", "b"]
    assert (stream.reason, stream.tokens) == ("stop", 3)
    assert (stream.feed(a), stream.finish()) == ("", "")


def test_a_text_that_is_ended_from_outside_tells_what_it_held(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    first, second = tokenizer.encode_batch(["é"])[0]
    stream = TextStream(tokenizer, Ending(strings=("éa",)))
    assert (stream.feed(first), stream.feed(second), stream.finish()) == ("", "", "é")
    assert stream.reason == "length"


def test_special_tokens_are_told_as_they_are_written(tmp_path: Path) -> None:
    saved = json.loads(MADE["byte-level BPE"].to_str())
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.add_special_tokens([AddedToken("<|mark|>", special=True)])
    ids = [*tokenizer.encode("a").ids, tokenizer.token_to_id("<|mark|>"), *tokenizer.encode("é").ids]
    assert "".join(streamed(Plain(tokenizer), ids)) == "a<|mark|>é"
