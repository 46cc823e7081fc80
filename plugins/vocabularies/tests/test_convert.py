"""SentencePiece models as tokenizer.json: ids are those of sentencepiece itself."""

from __future__ import annotations

import io
import itertools
import random
from contextlib import suppress
from pathlib import Path

import pytest
from lmgraft.errors import UserError
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_vocabularies.charsmap import changed
from lmgraft_vocabularies.convert import to_json
from lmgraft_vocabularies.library import opened
from lmgraft_vocabularies.merges import ranked, splits
from lmgraft_vocabularies.sentence_model import Kind, Piece, PieceType, SentenceModel, read_model

SPELT = [
    "<sep>a", "a <sep> b<sep><sep>c", "  x<mask>  y ", "<mask>", "<s>", "a</s>b", "<0x41>", "<unk>", "\u2581", "",
    "\u2581\u2581a", "x\u2581 \u2581y", " ", "   ", "\n", " \n ", "<sep", "<sep><s>", "\n\n\nx", "a\r\nb", "a" * 20,
]  # fmt: skip
RANGES = [
    (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x2000, 0x2070), (0x2460, 0x2500), (0x3040, 0x3100),
    (0x4E00, 0x9FFF), (0xFF00, 0xFF60), (0x1F300, 0x1FA00), (0, 0x20), (0x1D400, 0x1D800), (0xE0000, 0xE0080),
]  # fmt: skip


def fuzzed(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(
            draw.choice([" ", "  ", "\u2581", "</s>", "the "])
            if draw.random() < 0.2
            else chr(draw.randrange(*draw.choice(RANGES)))
            for _ in range(draw.randint(1, 12))
        )
        for _ in range(count)
    ]


def trained(path: Path, **settings: object) -> Path:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    made = io.BytesIO()
    trainer.train(
        sentence_iterator=iter(texts(300, seed=1)),
        model_writer=made,
        vocab_size=480,
        hard_vocab_limit=False,
        minloglevel=3,
        num_threads=1,
        **settings,
    )
    path.write_bytes(made.getvalue())
    return path


def differing(path: Path, shown: list[str]) -> list[str]:
    theirs = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(path))
    ours = opened(to_json(read_model(path)), path)
    found = [encoding.ids for encoding in ours.encode_batch(shown, add_special_tokens=False)]
    return [text for text, mine, other in zip(shown, found, theirs.encode(shown), strict=True) if mine != other]


@pytest.mark.parametrize(
    ("fallback", "rule", "extra", "symbols"),
    [*itertools.product((True, False), ("identity", "nmt_nfkc"), (True, False), ([], ["<sep>", "<mask>", "\n"]))],
)
def test_bpe_ids_are_sentencepieces(tmp_path: Path, fallback: bool, rule: str, extra: bool, symbols: list[str]) -> None:
    path = trained(
        tmp_path / "trained.model",
        model_type="bpe",
        byte_fallback=fallback,
        normalization_rule_name=rule,
        remove_extra_whitespaces=extra,
        add_dummy_prefix=extra or fallback,
        user_defined_symbols=symbols,
    )
    assert differing(path, [*texts(60, seed=2), *NASTY, *SPELT, *fuzzed(300)]) == []


@pytest.mark.parametrize("symbols", [[], ["<sep>", "<mask>", "\n"]])
def test_unigram_ids_are_sentencepieces_but_for_ties(tmp_path: Path, symbols: list[str]) -> None:
    path = trained(tmp_path / "trained.model", model_type="unigram", user_defined_symbols=symbols)
    shown = [text for text in [*texts(60, seed=2), *NASTY, *SPELT, *fuzzed(300)] if "xxxxxxxx" not in text]
    assert differing(path, shown) == []


def test_a_mark_behind_a_letter_that_the_table_changes_is_kept(tmp_path: Path) -> None:
    path = trained(tmp_path / "trained.model", model_type="bpe", byte_fallback=True)
    ours = opened(to_json(read_model(path)), path)
    assert ours.normalizer.normalize_str("\uff5d\u0329x") == "\u2581}\u0329x"
    for mark in "\u0eb2\u0e32\u3099":  # what U+0EB3, U+0E33 and U+FF9E become, or end in
        raw = {"\u0eb2": "\u0eb3", "\u0e32": "\u0e33", "\u3099": "\uff9e"}[mark]
        assert mark in ours.normalizer.normalize_str(f"a\u00a0{raw}b")
    assert 0xFF5D in changed(read_model(path).charsmap)
    assert changed(b"") == changed(b"\xff" * 40) == []


def test_runs_of_spaces_of_one_score_grow_from_the_left() -> None:
    spaces = [Piece("\u2581" * size, -1e9) for size in range(2, 17)]
    assert ranked(spaces)[0] == "\u2581" * 16
    assert ranked([Piece("ab", -2), Piece("bc", -1), Piece("c", 0)]) == ["bc", "ab"]
    assert splits("abc", {"a", "ab", "c", "bc"}) == [("ab", "c"), ("a", "bc")]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (SentenceModel(Path("x.model"), b"", kind=Kind.word), "of the type word"),
        (SentenceModel(Path("x.model"), b"", kind=Kind.char), "of the type char"),
        (SentenceModel(Path("x.model"), b"", space_is_suffix=True), "end of words"),
        (SentenceModel(Path("x.model"), b"", [Piece("a", 0, PieceType.unused)]), "1 unused"),
    ],
)
def test_what_tokenizer_json_cannot_say_is_refused(model: SentenceModel, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        to_json(model)
    assert len(str(caught.value).splitlines()) == 3


def test_a_damaged_table_of_characters_is_refused(tmp_path: Path) -> None:
    path = trained(tmp_path / "trained.model", model_type="bpe")
    model = read_model(path)
    draw = random.Random(0)
    for _ in range(6):
        table = bytearray(model.charsmap)
        for _ in range(2000):
            table[draw.randrange(4, len(table))] = draw.randrange(256)
        model.charsmap = bytes(table[: draw.randrange(len(table))])
        with suppress(UserError):  # and nothing else: no panic, no endless loop
            opened(to_json(model), path).encode("any text")
