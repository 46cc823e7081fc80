"""A text as its tokens: places to the byte, whatever kind of tokenizer cuts it."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import UserError
from lmgraft.tokenview.alphabet import byte_alphabet, spelling
from lmgraft.tokenview.comparing import Comparison, differing, is_kept
from lmgraft.tokenview.figures import blocks
from lmgraft.tokenview.shown import visible
from lmgraft.tokenview.spans import spans
from lmgraft.tokenview.view import Token, View, open_file, open_folder
from token_views import TEXTS, byte_level, sentence_piece, unigram, word_piece

HARD = "Héllo  wörld 漢字\n\tsnow 𝕏 ½ 😀 x\u0301 </s>\x1b[31m\u200b end "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def gpt(folder: Path) -> View:
    return open_file(byte_level(folder / "gpt.json"))


@pytest.fixture(scope="module")
def llama(folder: Path) -> View:
    return open_file(sentence_piece(folder / "llama.json"))


@pytest.fixture(scope="module")
def bert(folder: Path) -> View:
    return open_file(word_piece(folder / "bert.json"))


def spelt(tokens: list[Token], text: str) -> list[bytes]:
    data = text.encode()
    return [data[token.start : token.stop] for token in tokens]


@lru_cache(maxsize=1)
def made_once() -> View:
    """For hypothesis, which calls no fixtures."""
    with TemporaryDirectory() as folder:
        return open_file(byte_level(Path(folder) / "t.json"))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_byte_level_tokens_are_the_text_byte_for_byte(text: str) -> None:
    view = made_once()
    tokens = view.cut(text)
    assert b"".join(spelt(tokens, text)) == text.encode()
    assert [token.id for token in tokens] == view.encode([text])[0].tolist()
    for token in tokens:
        assert text.encode()[token.start : token.stop] == view.spelt[token.id]


def test_a_character_that_is_cut_over_tokens_has_its_bytes_in_each(gpt: View, llama: View) -> None:
    for view in (gpt, llama):
        tokens = view.cut("a😀b")  # of SentencePiece's kind a ▁ of its own may come first
        assert [part for part in spelt(tokens, "a😀b") if part] == [b"a", b"\xf0", b"\x9f", b"\x98", b"\x80", b"b"]
    assert [visible(part) for part in spelt(gpt.cut("ä"), "ä")] == ["<0xC3>", "<0xA4>"]


def test_sentence_piece_puts_a_space_before_the_text_which_is_none_of_it(llama: View) -> None:
    text = "the quick fox"
    tokens = llama.cut(text)
    assert tokens[0].piece.startswith("▁")
    assert tokens[0].start == 0
    assert b"".join(spelt(tokens, text)) == text.encode()


def test_places_come_from_the_pieces_where_these_are_the_text() -> None:
    assert spans(b"ab", [b"a", b"b"], None) == [(0, 1), (1, 2)]
    assert spans(b"ab", [b" a", b"b"], None) == [(0, 1), (1, 2)]
    assert spans(b"ab", [b" ", b"ab"], None) == [(0, 0), (0, 2)]
    assert spans(b"a xb", [b"a", b"?", b"b"], None) == [(0, 1), (1, 1), (3, 4)]  # the middle one is not there
    two = "½!".encode()
    assert spans(two, [b"1", b"/", b"2", b"!"], [(0, 1), (0, 1), (0, 1), (1, 2)]) == [(0, 2), (2, 2), (2, 2), (2, 3)]
    assert spans(b"", [], []) == []


def test_word_piece_lies_where_the_words_are_whatever_the_normalizer_did(bert: View) -> None:
    text = "  The QUICK fóx 漢 runs"
    tokens = bert.cut(text)
    words = [(visible(part), token.kind) for part, token in zip(spelt(tokens, text), tokens, strict=True)]
    assert [word for word, kind in words if kind == "unknown"] == ["漢"]
    joined = "".join(word for word, _ in words)
    assert joined == "TheQUICKfóx漢runs"


def test_one_character_that_becomes_several_is_shown_once(folder: Path) -> None:
    view = open_file(unigram(folder / "unigram.json"))  # NFKC makes 1⁄2 of ½
    text = "a ½ b"
    tokens = view.cut(text)
    assert b"".join(spelt(tokens, text)) == text.encode()
    starts = [token.start for token in tokens]
    assert starts == sorted(starts)


def test_every_kind_keeps_order_and_never_overlaps(gpt: View, llama: View, bert: View) -> None:
    for view in (gpt, llama, bert):
        done = 0
        for token in view.cut(HARD):
            assert done <= token.start <= token.stop <= len(HARD.encode())
            done = token.stop


def test_special_tokens_are_text_until_they_are_asked_for(gpt: View) -> None:
    text = "a<|end|>b"
    own = open_file(Path(gpt.name))
    assert {token.kind for token in own.cut(text)} == {"text"}
    assert b"".join(spelt(own.cut(text), text)) == text.encode()
    own.take_special()
    assert [(token.kind, part) for token, part in zip(own.cut(text), spelt(own.cut(text), text), strict=True)] == [
        ("text", b"a"), ("special", b"<|end|>"), ("text", b"b"),
    ]  # fmt: skip
    assert own.count(text).tokens == 3


def test_counts_of_a_text_are_those_of_its_parts(gpt: View, bert: View) -> None:
    text = "\n".join(TEXTS)
    figures = gpt.count(text)
    assert figures.bytes == len(text.encode())
    assert figures.characters == len(text)
    assert figures.words == len(text.split())
    assert figures.tokens == len(gpt.encode([text])[0])
    assert figures.unknown == 0
    assert bert.count("fox 漢 漢").unknown == 2
    assert gpt.count("").row()["bytes_per_token"] == 0


@settings(deadline=None)
@given(st.text(alphabet="ab \n漢", max_size=200), st.integers(4, 40))
def test_blocks_join_to_the_text_and_are_whole_lines_where_they_can_be(text: str, size: int) -> None:
    found = list(blocks(text, size))
    assert "".join(found) == text
    assert all(0 < len(block) <= size for block in found)
    for block in found[:-1]:
        assert block.endswith("\n") or "\n" not in block


def test_tokenizers_are_compared_by_ids_where_one_extends_the_other(gpt: View, folder: Path) -> None:
    content = json.loads(Path(gpt.name).read_text())
    for left, right in (("z", "z"), ("zz", "zz")):
        content["model"]["vocab"][left + right] = max(content["model"]["vocab"].values()) + 1
        content["model"]["merges"].append([left, right])
    (folder / "more.json").write_text(json.dumps(content))
    more = open_file(folder / "more.json")
    assert is_kept(gpt, more)
    assert not is_kept(more, gpt)
    compared = Comparison(gpt, more)
    assert compared.compared == "ids"
    count = compared.lines("the fox\nbuzz zzzz\nthe dog\n")
    assert (count.lines, count.changed) == (3, 1)


def test_tokenizers_of_other_kinds_are_compared_by_pieces_of_text(gpt: View, llama: View, bert: View) -> None:
    assert Comparison(gpt, llama).compared == "pieces"
    assert Comparison(gpt, gpt).lines("a b\nc").changed == 0
    # One token a word in both, with the space before it or without.
    text = "the fox"
    assert len(gpt.cut(text)) == len(bert.cut(text)) == 2
    assert Comparison(gpt, bert).lines(text).changed == 0
    data = text.encode()
    assert differing(gpt.cut(text), bert.cut(text), data) == [False, False]
    assert Comparison(gpt, bert).lines("ä").changed == 1


def test_signs_for_what_cannot_be_seen() -> None:
    assert visible(b"a b\n\t") == "a·b↵→"
    assert visible("\x1b[0m\u200b\u202e".encode()) == "<U+001B>[0m<U+200B><U+202E>"
    assert visible("·".encode()) == "<U+00B7>"
    assert visible("\u0301".encode()) == "◌\u0301"
    assert visible(b"\xe4\xbd") == "<0xE4><0xBD>"
    assert not set(visible(bytes(range(256)) + "\u2028\ue000\U000e0001".encode())) & set("\x1b\n\r\u2028\ue000")


def test_the_alphabet_of_bytes_is_the_librarys() -> None:
    from tokenizers import pre_tokenizers

    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))
    for byte in range(128):
        ((piece, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert alphabet[piece] == byte


def test_kinds_of_vocabularies(gpt: View, llama: View, bert: View) -> None:
    assert [view.spelling for view in (gpt, llama, bert)] == ["byte-level", "SentencePiece", "WordPiece"]
    assert spelling({"model": {"type": "WordLevel"}}) == "plain"


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"a": 1}', '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(UserError) as caught:
            open_folder(tmp_path)
        assert "tokenizer.json" in caught.value.problems[0].fact
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="missing"):
        open_folder(tmp_path)


def test_the_space_before_a_text_takes_nothing_of_it(folder: Path) -> None:
    """A unigram's ids may begin with a bare ▁, and NFKC elsewhere in the text means that only offsets tell."""
    data = b"a \xef\xbc\x81"
    assert spans(data, [b" ", b"a", b" ", b"!"], [(0, 1), (0, 1), (1, 2), (2, 3)]) == [(0, 0), (0, 1), (1, 2), (2, 5)]
