"""``extended``: SentencePiece models with a donor's pieces, byte-level BPE with merges behind the old ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import Fault, UserError
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_vocabularies.conformance import byte_level_file, sentence_piece_file
from lmgraft_vocabularies.extended import Extended
from lmgraft_vocabularies.plugin import ExtendedConfig, PretrainedConfig, Protect, Scores
from lmgraft_vocabularies.pretrained import Pretrained
from lmgraft_vocabularies.sentence_model import Kind, Piece, PieceType, model_bytes, read_model

ENGLISH = [*texts(80, seed=7), "the cat sat \u2014 \u201cthat\u201d is that\u2019s end\u2026"]


def foreign(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    words = ["".join(draw.choices("漢字語学校大人中国日本", k=draw.randint(1, 4))) for _ in range(40)]
    words += ["".join(draw.choices("абвгдежз", k=draw.randint(2, 6))) for _ in range(40)] + ["the", "mat", "Wort"]
    return [" ".join(draw.choices(words, k=12)) for _ in range(count)]


def pretrained(path: Path, folder: Path) -> Path:
    part = Pretrained(PretrainedConfig(path=str(path)))
    part.train(())
    part.save(folder)
    return folder


def extend(base: Path, out: Path, learnt: list[str] | None = None, **settings: Any) -> Any:
    part = Extended(ExtendedConfig(**settings))
    part.extend(base, learnt or [])
    part.save(out)
    return saved.load(out)


def refused(base: Path | None, **settings: Any) -> str:
    part = Extended(ExtendedConfig(**settings))
    with pytest.raises(UserError) as caught:
        part.train(()) if base is None else part.extend(base, foreign(30))
    (problem,) = caught.value.problems
    assert len(str(problem).splitlines()) == 3
    return str(problem)


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    return pretrained(sentence_piece_file(tmp_path / "base.model"), tmp_path / "base")


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    return pretrained(byte_level_file(tmp_path), tmp_path / "byte_level")


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    return sentence_piece_file(tmp_path / "donor.model", " ".join(dict.fromkeys(" ".join(foreign(20)).split())))


def merges(folder: Path) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]]


def vocab(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return found


# --- SentencePiece --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [Scores.last, Scores.first])
def test_ids_are_those_of_sentencepiece_with_the_merged_model(
    sentence: Path, donor: Path, tmp_path: Path, scores: Scores
) -> None:
    spm = pytest.importorskip("sentencepiece")
    found = extend(sentence, tmp_path / "out", pieces=str(donor), scores=scores)
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "out" / "tokenizer.model"))
    shown = [*foreign(60, seed=3), *ENGLISH, *NASTY]
    assert found.encode_batch(shown) == theirs.encode(shown)
    assert found.vocab_size == theirs.get_piece_size()


def test_missing_pieces_are_appended_in_the_donors_order(sentence: Path, donor: Path, tmp_path: Path) -> None:
    found = extend(sentence, tmp_path / "out", pieces=str(donor), scores=Scores.zero)
    old, theirs = read_model(sentence / "tokenizer.model").pieces, read_model(donor).pieces
    new = read_model(tmp_path / "out" / "tokenizer.model").pieces
    have = {piece.text for piece in old}
    assert new[: len(old)] == old
    ordinary = [piece.text for piece in theirs if piece.type is PieceType.normal]
    assert new[len(old) :] == [Piece(text, 0.0) for text in ordinary if text not in have]
    base = saved.load(sentence)
    assert (found.end_id, found.pad_id) == (base.end_id, base.pad_id)
    assert sum(map(len, found.encode_batch(foreign(20)))) < 0.5 * sum(map(len, base.encode_batch(foreign(20))))


def test_a_bare_model_gets_its_padding_token_behind_the_new_pieces(donor: Path, tmp_path: Path) -> None:
    base = sentence_piece_file(tmp_path / "bare.model")
    part = Extended(ExtendedConfig(base_path=str(base), pieces=str(donor)))
    part.train(())
    part.save(tmp_path / "out")
    found = saved.load(tmp_path / "out")
    assert found.pad_id == found.vocab_size - 1
    assert sorted(part.inputs()) == ["base.model", "pieces.model"]


def test_texts_begin_as_the_bases_do(tmp_path: Path, donor: Path) -> None:
    base = sentence_piece_file(tmp_path / "base.model")
    folder = tmp_path / "folder"
    folder.mkdir()
    base.rename(folder / "tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    found = extend(pretrained(folder, tmp_path / "base"), tmp_path / "out", pieces=str(donor))
    assert (found.first_id, found.end_id) == (1, 2)
    content = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert content["post_processor"]["type"] == "TemplateProcessing"


def test_english_stays_where_it_is_protected(sentence: Path, tmp_path: Path) -> None:
    donor = sentence_piece_file(tmp_path / "donor.model", "catsat 漢字 thatis cat\u2019s")
    before = saved.load(sentence).encode_batch(ENGLISH)
    changed = extend(sentence, tmp_path / "all", pieces=str(donor), scores=Scores.first)
    assert changed.encode_batch(ENGLISH) != before
    for number, settings in enumerate(({"protect": Protect.english}, {"protect_path": str(tmp_path / "english.txt")})):
        (tmp_path / "english.txt").write_text("\n".join(ENGLISH), encoding="utf-8")
        out = tmp_path / f"out{number}"
        found = extend(sentence, out, pieces=str(donor), scores=Scores.first, **settings)
        assert found.encode_batch(ENGLISH) == before
        assert "\u2581漢字" in vocab(out)


def test_protected_lines_are_protected_as_texts_too(sentence: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one\n漢字 two", encoding="utf-8")
    donor = sentence_piece_file(tmp_path / "donor.model", "漢語 漢字 語語")
    found = extend(sentence, tmp_path / "out", pieces=str(donor), protect_path=str(tmp_path / "text"))
    assert found.encode_batch(["漢字 two"]) == saved.load(sentence).encode_batch(["漢字 two"])
    assert "\u2581語語" in vocab(tmp_path / "out")


def test_pieces_are_learnt_for_a_sentencepiece_base(sentence: Path, tmp_path: Path) -> None:
    found = extend(sentence, tmp_path / "out", foreign(200), new_tokens=100, protect=Protect.english)
    again = extend(sentence, tmp_path / "again", foreign(200), new_tokens=100, protect=Protect.english)
    base = saved.load(sentence)
    assert base.vocab_size < found.vocab_size <= base.vocab_size + 100
    assert found.fingerprint() == again.fingerprint()
    assert sum(map(len, found.encode_batch(foreign(20)))) < 0.5 * sum(map(len, base.encode_batch(foreign(20))))
    assert [found.decode(ids) for ids in found.encode_batch(foreign(5))] == foreign(5)
    assert found.encode_batch(ENGLISH) == base.encode_batch(ENGLISH)


def test_a_unigram_base_takes_a_donors_scores(tmp_path: Path) -> None:
    def unigram(path: Path, words: str) -> Path:
        pieces = [Piece("<unk>", 0, PieceType.unknown), Piece("</s>", 0, PieceType.control)]
        pieces += [Piece("\u2581" + word, -2.5) for word in words.split()]
        pieces += [Piece(letter, -6.0) for letter in sorted(set("\u2581" + words.replace(" ", "")))]
        path.write_bytes(model_bytes(pieces, Kind.unigram, byte_fallback=False, remove_extra_spaces=True))
        return path

    spm = pytest.importorskip("sentencepiece")
    base = pretrained(unigram(tmp_path / "base.model", "the cat sat"), tmp_path / "base")
    donor = str(unigram(tmp_path / "donor.model", "漢字 the 学校"))
    found = extend(base, tmp_path / "out", pieces=donor, scores=Scores.donor)
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "out" / "tokenizer.model"))
    assert found.encode_batch(["the 漢字 sat 学校 xyz"]) == theirs.encode(["the 漢字 sat 学校 xyz"])
    assert "scores=donor" in refused(base, pieces=donor)
    assert "unigram" in refused(base, new_tokens=9, scores=Scores.zero)


# --- byte-level BPE -------------------------------------------------------------------------------------------------


def test_learnt_merges_come_after_the_old_ones(byte_level: Path, tmp_path: Path) -> None:
    base = saved.load(byte_level)
    found = extend(byte_level, tmp_path / "out", foreign(200), new_tokens=120)
    assert found.vocab_size == base.vocab_size + 120
    old, new = vocab(byte_level), vocab(tmp_path / "out")
    assert {name: new[name] for name in old} == old
    assert merges(tmp_path / "out")[: len(merges(byte_level))] == merges(byte_level)
    assert (found.end_id, found.pad_id) == (base.end_id, base.pad_id)
    shown = [*foreign(40, seed=5), *NASTY]
    assert [found.decode(ids) for ids in found.encode_batch(shown)] == shown
    assert sum(map(len, found.encode_batch(foreign(20)))) < 0.5 * sum(map(len, base.encode_batch(foreign(20))))


def test_protected_text_keeps_its_encoding(byte_level: Path, tmp_path: Path) -> None:
    base = saved.load(byte_level)
    learnt = [*foreign(100), *["zebra quagga\u2019s"] * 500]
    shown = [*ENGLISH, "zebra quagga zebra\u2019s"]
    plain = extend(byte_level, tmp_path / "plain", learnt, new_tokens=150)
    assert plain.encode_batch(shown) != base.encode_batch(shown)
    english = extend(byte_level, tmp_path / "english", learnt, new_tokens=150, protect=Protect.english)
    assert english.encode_batch(shown) == base.encode_batch(shown)
    (tmp_path / "text").write_text("\n".join(shown), encoding="utf-8")
    path = extend(byte_level, tmp_path / "path", learnt, new_tokens=150, protect_path=str(tmp_path / "text"))
    assert path.encode_batch(shown) == base.encode_batch(shown)
    assert path.encode_batch(foreign(3)) != base.encode_batch(foreign(3))


def test_a_donors_pieces_become_merges(byte_level: Path, tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    extend(byte_level, donor, foreign(200), new_tokens=100)
    found = extend(byte_level, tmp_path / "out", pieces=str(donor))
    theirs = saved.load(donor)
    assert set(vocab(tmp_path / "out")) == set(vocab(donor))
    shown = foreign(40, seed=9)
    assert sum(map(len, found.encode_batch(shown))) <= 1.02 * sum(map(len, theirs.encode_batch(shown)))


def test_special_tokens_behind_the_vocabulary_keep_their_ids(tmp_path: Path) -> None:
    path = byte_level_file(tmp_path)
    content = json.loads(path.read_text())
    last = max(content["model"]["vocab"].values())
    more = [{**content["added_tokens"][0], "id": last + 1 + number, "content": f"<|{number}|>"} for number in range(3)]
    content["added_tokens"] += more
    path.write_text(json.dumps(content))
    base = pretrained(path, tmp_path / "base")
    extend(base, tmp_path / "out", foreign(100), new_tokens=30)
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert [found.token_to_id(token["content"]) for token in more] == [token["id"] for token in more]
    ids = sorted(found.get_vocab(with_added_tokens=True).values())
    assert ids == list(range(len(ids)))


# --- what is refused ------------------------------------------------------------------------------------------------


def test_what_cannot_be_extended(sentence: Path, byte_level: Path, donor: Path, tmp_path: Path) -> None:
    assert "gives no pieces to that base" in refused(byte_level, pieces=str(donor))
    assert "byte-level BPE" in refused(sentence, pieces=str(byte_level / "tokenizer.json"))
    assert "is missing" in refused(sentence, pieces=str(tmp_path / "none.model"))
    assert "no piece to add" in refused(sentence, pieces=str(sentence / "tokenizer.model"))
    assert "nothing to extend" in refused(None, new_tokens=5)
    assert "takes no scores of a donor" in refused(sentence, pieces=str(donor), scores=Scores.donor)
    assert "cannot be read" in refused(byte_level, new_tokens=5, protect_path=str(tmp_path / "none.txt"))
    with pytest.raises(Fault):
        Extended(ExtendedConfig(new_tokens=1)).save(tmp_path / "out")


def test_bases_of_other_types(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    for kind in (models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"), models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")):
        folder = tmp_path / type(kind).__name__
        folder.mkdir()
        Tokenizer(kind).save(str(folder / "tokenizer.json"))
        assert f"it is {type(kind).__name__}" in refused(folder, new_tokens=5)


def test_settings() -> None:
    def told(**settings: Any) -> str:
        return " ".join(map(str, ExtendedConfig(**settings).check()))

    assert "say how many to learn" in told()
    assert "set one of them" in told(new_tokens=5, pieces="x")
    assert "cannot be negative" in told(new_tokens=-5)
    assert "min_frequency is 0" in told(new_tokens=5, min_frequency=0)
    assert told(new_tokens=5) == ""
