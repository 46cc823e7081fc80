"""Special tokens that a text writes out, in tokenizer.json files whose models would find them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import UserError
from lmgraft_vocabularies.plugin import PretrainedConfig
from lmgraft_vocabularies.pretrained import Pretrained
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ["<unk>", "</s>", "<pad>", "<extra_id_0>"]
LETTERS = "\u2581abehtx_0</>spd"
IDS = {piece: index for index, piece in enumerate([*SPECIAL, *LETTERS, "the", "##s"])}


def finished(tokenizer: Tokenizer, path: Path) -> Path:
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(path))
    return path


def t5() -> Tokenizer:
    scores = [(piece, 0.0) for piece in SPECIAL] + [(letter, -5.0) for letter in LETTERS] + [("\u2581the", -6.0)]
    made = Tokenizer(models.Unigram(scores, unk_id=0))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return made


def words(model: object) -> Tokenizer:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "unigram": t5,
    "word level": lambda: words(models.WordLevel(IDS, unk_token="<unk>")),
    "wordpiece": lambda: words(models.WordPiece(IDS, unk_token="<unk>")),
    "bpe of whole words": lambda: words(models.BPE(IDS, [], unk_token="<unk>", ignore_merges=True)),
}


def load(path: Path, out: Path) -> saved.SavedTokenizer:
    part = Pretrained(PretrainedConfig(path=str(path)))
    part.train(())
    part.save(out)
    found = saved.load(out)
    assert isinstance(found, saved.SavedTokenizer)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_gets_a_special_tokens_id(kind: str, tmp_path: Path) -> None:
    path = finished(KINDS[kind](), tmp_path / "tokenizer.json")
    found, theirs = load(path, tmp_path / "out"), Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    given = [text for token in SPECIAL for text in (token, f"a{token}b", f"the {token} the", token * 2, f" {token}s")]
    assert any({1, 2, 3} & set(theirs.encode(text, add_special_tokens=False).ids) for text in given)
    for text in [*given, "\uff1c/s\uff1e", "".join(SPECIAL)]:
        assert not {1, 2, 3} & set(found.encode_batch([text])[0]), text
    # All other text is encoded as it was.
    for text in ["the bed", "a < b > s", "<", "/s>", "extra_id_0", "the" * 9, ""]:
        assert found.encode_batch([text])[0] == theirs.encode(text, add_special_tokens=False).ids
    assert (found.end_id, found.pad_id) == (1, 2)
    again = load(tmp_path / "out", tmp_path / "again")
    assert again.fingerprint() == found.fingerprint()
    if kind in ("unigram", "bpe of whole words"):
        assert found.decode(found.encode_batch(["</s>"])[0]).replace(" ", "") == "</s>"


def test_long_text_is_still_cut(tmp_path: Path) -> None:
    found = load(finished(t5(), tmp_path / "tokenizer.json"), tmp_path / "out")
    assert found.cutter is not None
    text = "the bed " * 30_000
    assert len(list(found.cutter.pieces(text))) > 2


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    made = Tokenizer(models.WordPiece({**IDS, "<": 90}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    path = finished(made, tmp_path / "tokenizer.json")
    load(path, tmp_path / "out")
    before, after = (json.loads((folder / "tokenizer.json").read_text()) for folder in (tmp_path, tmp_path / "out"))
    assert after["pre_tokenizer"] == before["pre_tokenizer"]


def test_a_special_token_of_one_character_is_refused(tmp_path: Path) -> None:
    made = words(models.WordLevel({**IDS, "\u00b6": 90}, unk_token="<unk>"))
    made.add_special_tokens(["\u00b6"])
    with pytest.raises(UserError) as caught:
        load(finished(made, tmp_path / "tokenizer.json"), tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 3
    assert "\u00b6" in str(caught.value)


def test_a_splitter_of_several_steps(tmp_path: Path) -> None:
    made = t5()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    found = load(finished(made, tmp_path / "tokenizer.json"), tmp_path / "out")
    assert not {1, 2, 3} & set(found.encode_batch(["the </s> a<pad>b"])[0])
    none = t5()
    none.pre_tokenizer = None
    none.normalizer = normalizers.Replace(Regex(" "), "\u2581")
    found = load(finished(none, tmp_path / "tokenizer.json"), tmp_path / "none")
    assert not {1, 2, 3} & set(found.encode_batch(["the </s> a<pad>b"])[0])
