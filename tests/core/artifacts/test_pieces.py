"""Cuts of long text: the ids of the pieces are those of the whole, for every kind of tokenizer that has a rule."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import _pieces
from lmgraft.artifacts._pieces import GPT2, LLAMA3, QWEN2, Cutter, cutter
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXT = [
    "the cat sat on the mat, the cat's hat; IT'S 12 123456 spaces   and\n\n\n lines \r\n über İstanbul 漢字，漢字。",
    "it's we'll don't  the the theatre Theatre 1984, 3.14! x=y+1 (a) [b] {c} e\u0301 привет, мир नमस्ते ไทย ประเทศ",
]
#: Letters, digits, marks that combine, white space of all sorts, quotes that begin contractions, and rare characters.
ALPHABET = (
    "abstm'’ 1234 \n\t\r.,!<>=_漢字，。éİıŉŀя\u0301\u0338\u200d\u0e33\u0e01\u1161\u11a8\x1c\x85\xa0\u2028\u3000▁👍"
)
TEXTS = st.one_of(
    st.text(alphabet=ALPHABET, max_size=60),
    st.lists(
        st.sampled_from(["the", " cat", "'s", "<b>", " ", "  ", "\n", "1", "漢字", "，", "a", " b", "<b", "▁"])
    ).map("".join),
)


def byte_level(pattern: str | None, *, prefix: bool = False, nfc: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE())
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), last] if pattern else [last]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps) if pattern else last
    if nfc:
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXT * 3, trainer)
    return made


def bert(*, lowercase: bool) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    return made


def words(splitter: object) -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    return made


def unigram(scheme: str) -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    return made


def within_words(whole: Tokenizer) -> Tokenizer:
    """A tokenizer that splits words too, as ``pretrained`` does where they spell special tokens."""
    inner = pre_tokenizers.Split(Regex("(?<=t)(?=he)|(?<=<)(?=b>)|(?<=\u2581)(?=1)"), "isolated")
    whole.pre_tokenizer = pre_tokenizers.Sequence([whole.pre_tokenizer, inner])
    return whole


def sentence_piece(*, normalizer: bool, over_words: bool = False) -> Tokenizer:
    """As LLaMA 2's: BPE over all of the text, with bytes for what the vocabulary lacks."""
    vocab = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *"▁abctehsm1.,"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "a"), ("▁", "▁"), ("▁▁", "▁▁"), ("a", "t"), ("▁", "1")]
    merges += [("a", "▁")] if over_words else []
    vocab += [left + right for left, right in merges]
    ids = {piece: index for index, piece in enumerate(vocab)}
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return made


def sentence_bpe() -> Tokenizer:
    """As the part bpe's: BPE over all of the text, nothing prepended."""
    vocab = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *"▁abcthe1.漢字，。"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("字", "，"), ("漢", "字"), ("a", "."), ("t", "1")]
    ids = {piece: n for n, piece in enumerate([*vocab, *(left + right for left, right in merges)])}
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    return made


def sentence_unigram(number: int) -> Tokenizer:
    """As the part unigram's."""
    made = Tokenizer.from_str(json.dumps(json.loads(unigram("never").to_str()) | {"normalizer": None}))
    words = pre_tokenizers.Split(Regex(_pieces.WORDS[number]), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)])
    return made


def with_added() -> Tokenizer:
    made = byte_level(None)
    made.add_tokens([AddedToken("<b>", special=False), AddedToken("漢字 a", special=False), "cat the"])
    return made


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: byte_level(None),
    "gpt2 written out": lambda: byte_level(GPT2),
    "gpt2 with a space before": lambda: byte_level(None, prefix=True),
    "llama3": lambda: byte_level(LLAMA3),
    "qwen2": lambda: byte_level(QWEN2, nfc=True),
    "bert": lambda: bert(lowercase=True),
    "bert, cased": lambda: bert(lowercase=False),
    "whitespace": lambda: words(pre_tokenizers.Whitespace()),
    "whitespace, nothing else": lambda: words(pre_tokenizers.WhitespaceSplit()),
    "metaspace": lambda: words(pre_tokenizers.Metaspace()),
    "unigram": lambda: unigram("always"),
    "unigram, split within words": lambda: within_words(unigram("always")),
    "whitespace, split within words": lambda: within_words(words(pre_tokenizers.WhitespaceSplit())),
    "bert, split within words": lambda: within_words(bert(lowercase=False)),
    "unigram, first": lambda: unigram("first"),
    "llama2": lambda: sentence_piece(normalizer=True),
    "metaspace, not split": lambda: sentence_piece(normalizer=False),
    "bpe": sentence_bpe,
    "unigram by its words": lambda: sentence_unigram(0),
    "unigram by its words and digits": lambda: sentence_unigram(1),
    "added tokens": with_added,
}
MADE: dict[str, tuple[Tokenizer, Cutter]] = {}


def made(name: str) -> tuple[Tokenizer, Cutter]:
    if name not in MADE:
        tokenizer = MAKERS[name]()
        rule = cutter(json.loads(tokenizer.to_str()))
        assert rule is not None
        MADE[name] = tokenizer, rule
    return MADE[name]


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, size=st.integers(1, 6))
def test_pieces_have_the_ids_of_the_whole(name: str, text: str, size: int) -> None:
    tokenizer, rule = made(name)
    parts = rule.pieces(text, size)
    found = [index for part in parts for index in tokenizer.encode(part, add_special_tokens=False).ids]
    assert found == tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", MAKERS)
def test_text_is_cut_at_all(name: str) -> None:
    _, rule = made(name)
    assert len(list(rule.pieces(TEXT[1], 1))) > 6
    assert "".join(rule.pieces(TEXT[1] * 3, 5)).replace(" ", "") == (TEXT[1] * 3).replace(" ", "")


def test_patterns_are_those_of_the_parts() -> None:
    from lmgraft_byte_bpe import tokenizer as byte_bpe
    from lmgraft_subword import _pieces as subword

    assert {LLAMA3, QWEN2} <= set(byte_bpe.REGEXES.values())
    assert tuple(map(subword.words, (False, True))) == _pieces.WORDS


@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen2", "bert", "unigram by its words"])
def test_chinese_is_cut_without_a_space(name: str) -> None:
    text = "海內存知己，天涯若比鄰。" * 20
    _, rule = made(name)
    assert max(map(len, rule.pieces(text, 10))) <= 16


@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen2"])
def test_figures_are_cut_without_a_space(name: str) -> None:
    _, rule = made(name)
    assert max(map(len, rule.pieces("1234567,8901234;" * 20, 10))) <= 18
    assert max(map(len, rule.pieces("00ff12aa34bc" * 20, 10))) <= 14


def test_classes_of_characters_are_sure() -> None:
    """In Unicode 3.2 and today: letters that stay letters whatever normalises them, and no marks among the breaks."""
    old = unicodedata.ucd_3_2_0
    letters, breaks, bert_breaks = (
        re.compile(f"[{which}]") for which in (_pieces.LETTERS, _pieces.BREAKS, _pieces.BERT_BREAKS)
    )
    for character in map(chr, range(0x30000)):
        now = unicodedata.category(character)
        if letters.match(character):
            assert {now[0], old.category(character)[0]} == {"L"}
            assert unicodedata.normalize("NFC", character) == character
            assert all(unicodedata.category(part)[0] == "L" for part in unicodedata.normalize("NFKC", character))
        if breaks.match(character):
            assert not {now[0], old.category(character)[0]} & set("LMN")
        if bert_breaks.match(character) and not character.isascii():
            assert now[0] == "P"


def changed(tokenizer: Tokenizer, **change: object) -> Cutter | None:
    return cutter({**json.loads(tokenizer.to_str()), **change})


def test_what_is_not_known_stays_whole() -> None:
    gpt2, llama3 = MAKERS["gpt2"](), MAKERS["llama3"]()
    assert changed(gpt2, normalizer={"type": "NFKC"}) is None  # U+0140 becomes a letter and a dot
    assert changed(gpt2, normalizer={"type": "Lowercase"}) is None  # U+0130 becomes a letter and a mark
    assert changed(gpt2, pre_tokenizer=None) is None
    split = json.loads(llama3.to_str())["pre_tokenizer"]
    assert changed(llama3, pre_tokenizer=split) is not None
    split["pretokenizers"][0]["pattern"] = {"Regex": LLAMA3.replace(r"\p{L}+", r"\p{L}+\p{P}?")}
    assert changed(llama3, pre_tokenizer=split) is None
    split["pretokenizers"][0]["pattern"] = {"String": GPT2}
    assert changed(llama3, pre_tokenizer=split) is None
    assert cutter(json.loads(sentence_piece(normalizer=True, over_words=True).to_str())) is None
    assert cutter(json.loads(sentence_piece(normalizer=False, over_words=True).to_str())) is None
    spaced = sentence_piece(normalizer=False)
    assert changed(spaced, normalizer={"type": "NFC"}) is not None
    chinese = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": False}
    assert changed(spaced, normalizer=chinese) is None  # puts spaces around characters, which merges join
    over_all = unigram("always")
    over_all.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert cutter(json.loads(within_words(unigram("always")).to_str())) is not None
    assert cutter(json.loads(within_words(over_all).to_str())) is None
    over_all.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert cutter(json.loads(over_all.to_str())) is None


@pytest.mark.parametrize("key", ["lstrip", "rstrip", "single_word"])
def test_added_tokens_that_look_around_leave_text_whole(key: str) -> None:
    tokenizer = MAKERS["gpt2"]()
    tokenizer.add_tokens([AddedToken("<b>", **{key: True})])
    assert cutter(json.loads(tokenizer.to_str())) is None


def test_a_search_has_an_end() -> None:
    _, rule = made("gpt2")
    assert rule.find("aaaa b", 0) == 4
    assert rule.find("aaaa b", 0, 4) is None
    assert rule.find("aaaa b", 5) is None
