"""bpe, wordpiece and unigram trained on text made here: ids, files, ties, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as saved
from lmgraft.artifacts._pieces import cutter
from lmgraft.errors import Fault, UserError
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft_subword.bpe import BPE
from lmgraft_subword.plugin import BPEConfig, UnigramConfig, WordPieceConfig
from lmgraft_subword.unigram import Unigram
from lmgraft_subword.wordpiece import WordPiece
from tokenizers import Tokenizer

PARTS: dict[str, tuple[Any, Any]] = {
    "bpe": (BPE, BPEConfig),
    "unigram": (Unigram, UnigramConfig),
    "wordpiece": (WordPiece, WordPieceConfig),
}
STEMS = ("token", "piece", "train", "word", "text", "model", "merge", "count")
ENDS = ("s", "ing", "er", "ed", "", "able", "ization")


def texts(count: int = 120) -> list[str]:
    """Words of parts, in two scripts, with pairs of equal count, so that ties are broken often."""
    draw = random.Random(3)
    found = []
    for number in range(count):
        words = [draw.choice(STEMS) + draw.choice(ENDS) for _ in range(30)]
        found.append(" ".join(words) + f". Zwölf {number}!\n    x = {number * 7}\n你好，世界 мир {draw.choice('abc')}")
    return found


def part(kind: str, **settings: Any) -> Any:
    made, config = PARTS[kind]
    return made(config(**{"vocab_size": 500, **settings}))


def trained(kind: str, folder: Path, given: list[str] | None = None, **settings: Any) -> TextTokenizer:
    one = part(kind, **settings)
    one.train(iter(texts() if given is None else given))
    one.save(folder)
    return saved.load(folder)


TRAIN = """
import sys
sys.path[:0] = {path!r}
from importlib import import_module
from pathlib import Path
from lmgraft_subword import plugin
made = getattr(import_module("lmgraft_subword.{kind}"), {name!r})(plugin.{name}Config(vocab_size=500, coverage_and))
made.train(Path({given!r}).read_text(encoding="utf-8").split("\\0"))
made.save(Path({out!r}))
"""


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / saved.FILE).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("kind", list(PARTS))
def test_same_bytes_in_other_processes_and_thread_counts(kind: str, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("\0".join(texts()), encoding="utf-8", newline="")
    trained(kind, tmp_path / "here")
    name, limit = PARTS[kind][0].__name__, "alphabet=30" if kind == "wordpiece" else "coverage=0.99"
    code = TRAIN.replace("coverage_and", limit)
    for number, more in enumerate(({"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}, {"RAYON_NUM_THREADS": "3"})):
        out = tmp_path / str(number)
        script = code.format(path=sys.path, kind=kind, name=name, given=str(tmp_path / "texts"), out=str(out))
        subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **more})
    limits = {"alphabet": 30} if kind == "wordpiece" else {"coverage": 0.99}
    trained(kind, tmp_path / "here", **limits)
    for file in (saved.FILE, saved.CONFIG):
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "1" / file).read_bytes()
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


@pytest.mark.parametrize("kind", list(PARTS))
def test_special_tokens(kind: str, tmp_path: Path) -> None:
    loaded = trained(kind, tmp_path, special_tokens=["<|im_start|>"], chat_template="solar")
    special = {token["id"]: token["content"] for token in content(tmp_path)["added_tokens"] if token["special"]}
    assert special[3] == "<|im_start|>"
    assert sorted(special) == list(range(4))
    assert {loaded.end_id, loaded.pad_id} < set(special)
    assert loaded.chat_template is not None
    spelt = "".join(special.values())
    for text in (spelt, f"a {spelt} b", " ".join(special.values()), "<0x41><0x0A> [UNK] ##ing"):
        ids = loaded.encode_batch([text])[0]
        assert not set(special) - {0 if kind != "wordpiece" else 1} & set(ids)
        if kind != "wordpiece":
            assert loaded.decode(ids) == text
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("<|im_start|>")["input_ids"] == [3]
    assert theirs.unk_token_id == (1 if kind == "wordpiece" else 0)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_text_comes_back(kind: str, tmp_path: Path) -> None:
    loaded = trained(kind, tmp_path)
    sizes = loaded.token_bytes()
    for text in [*texts(5), "  lead", "trail  ", "\n\n\t x\r\n", "\U0001f468\u200d\U0001f469 e\u0301", " " * 50, "\0"]:
        ids = loaded.encode_batch([text])[0]
        assert loaded.decode(ids) == text
        assert sum(sizes[index] for index in ids) == len(text.encode())
    # What this kind cannot tell from a space.
    assert loaded.decode(loaded.encode_batch(["a\u2581b"])[0]) == "a b"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_texts_encoded_apart_are_joined_without_a_trace(kind: str, tmp_path: Path) -> None:
    loaded = trained(kind, tmp_path)
    parts = ["### User:\n", "training", " words", "\n\n", " end"]
    ids = [index for found in loaded.encode_batch(parts) for index in found]
    assert loaded.decode(ids) == "".join(parts)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_keep_to_words(kind: str, tmp_path: Path) -> None:
    trained(kind, tmp_path / "split")
    vocabulary = content(tmp_path / "split")["model"]["vocab"]
    pieces = [piece if isinstance(piece, str) else piece[0] for piece in vocabulary]
    learnt = [piece for piece in pieces if piece not in ("<unk>", "</s>", "<pad>") and not piece.startswith("<0x")]
    assert "\u2581\u2581\u2581" in learnt  # code is indented
    assert any(len(piece) > 5 for piece in learnt)
    for piece in learnt:
        inner = piece.strip("\u2581") or "\u2581"
        assert "\u2581" not in inner or inner == "\u2581"
        assert inner.isdigit() <= (len(piece) == 1)
        assert "\n" not in inner or not inner.strip("\n")
        assert len({letter.isalpha() for letter in inner}) == 1
        assert len({"\u4e00" <= letter <= "\u9fff" for letter in inner}) == 1
    trained(kind, tmp_path / "joined", split_digits=False)
    assert "split_digits" not in content(tmp_path / "joined")


@pytest.mark.parametrize("kind", list(PARTS))
@pytest.mark.parametrize("more", [{}, {"split_digits": False}])
def test_long_documents_are_cut_by_core(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    if kind == "wordpiece":
        more = {}
    loaded = trained(kind, tmp_path, **more)
    rule = cutter(content(tmp_path))
    assert rule is not None
    long = "\n".join(texts()) * 3 + "\u6f22\u5b57 \u6f22 12 34 x  y"
    whole = Tokenizer.from_file(str(tmp_path / saved.FILE)).encode(long, add_special_tokens=False).ids
    assert loaded.encode_batch([long])[0] == whole
    parts = list(rule.pieces(long, 10))
    assert len(parts) > 1000
    assert [index for found in loaded.encode_batch(parts) for index in found] == whole


def test_bpe_has_the_shape_of_llama_2(tmp_path: Path) -> None:
    trained("bpe", tmp_path)
    found = content(tmp_path)
    assert found["pre_tokenizer"] is None
    assert found["normalizer"] == {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    assert [step["type"] for step in found["decoder"]["decoders"]] == ["Replace", "ByteFallback", "Fuse"]
    model = found["model"]
    assert (model["type"], model["unk_token"], model["byte_fallback"], model["fuse_unk"]) == (
        "BPE",
        "<unk>",
        True,
        True,
    )
    vocabulary = model["vocab"]
    assert [vocabulary[f"<0x{byte:02X}>"] for byte in range(256)] == list(range(3, 259))
    made = {"".join(pair) for pair in model["merges"]}
    assert all(piece in made for piece, index in vocabulary.items() if index > 258 and len(piece) > 1)


def test_bpe_text_that_spells_special_tokens_is_not_learnt(tmp_path: Path) -> None:
    loaded = trained("bpe", tmp_path, ["<s></s> <pad> <0x41> <unk> aa" * 50], special_tokens=["<s>"])
    (ids,) = loaded.encode_batch(["</s><pad><0x41><unk><s>"])
    assert loaded.decode(ids) == "</s><pad><0x41><unk><s>"
    assert min(ids) >= 260


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_without_bytes_there_is_an_unknown_token(kind: str, tmp_path: Path) -> None:
    loaded = trained(kind, tmp_path, byte_fallback=False)
    (ids,) = loaded.encode_batch(["word\U0001f468\U0001f469word"])
    assert ids.count(0) == 1
    assert loaded.decode(ids, skip_special=True) == "wordword"
    assert loaded.vocab_size <= 500


@pytest.mark.parametrize("kind", list(PARTS))
def test_rare_characters_are_left_out(kind: str, tmp_path: Path) -> None:
    given = [*texts(), "rare \u0416\u0416 once"]
    limits = {"alphabet": 40} if kind == "wordpiece" else {"coverage": 0.99}
    trained(kind, tmp_path, given, **limits)
    pieces = json.dumps(content(tmp_path)["model"]["vocab"], ensure_ascii=False)
    assert "\u0416" not in pieces
    assert '"a"' in pieces


def test_wordpiece_by_hand(tmp_path: Path) -> None:
    loaded = trained("wordpiece", tmp_path)
    pieces = {index: piece for piece, index in content(tmp_path)["model"]["vocab"].items()}

    def cut(text: str) -> list[str]:
        return [pieces[index] for index in loaded.encode_batch([text])[0]]

    assert [pieces[index] for index in range(5)] == ["[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]"]
    assert "".join(piece.removeprefix("##") for piece in cut("training")) == "training"
    assert cut("Zw\u00f6lf") != cut("zw\u00f6lf")
    assert cut("word \U0001f468word. \u4f60\u597d") == ["word", "[UNK]", ".", "\u4f60", "\u597d"]
    assert cut("w" * 101) == ["[UNK]"]
    assert "[UNK]" not in cut("w" * 100)
    assert loaded.decode(loaded.encode_batch(["words.  word\n\tmodels !"])[0]) == "words. word models!"
    lower = trained("wordpiece", tmp_path / "lower", lowercase=True)
    assert lower.decode(lower.encode_batch(["Zw\u00f6lf WORDS"])[0]) == "zwolf words"


def test_unigram_is_no_worse_than_the_librarys_trainer(tmp_path: Path) -> None:
    """At the same size: tokens of the text that both learnt from."""
    from lmgraft_subword._pieces import words
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    named = os.environ.get("LMGRAFT_TEST_DATA")
    if not named:
        pytest.skip("LMGRAFT_TEST_DATA names no folder of real data")
    lines = gzip.decompress((Path(named) / "corpus" / "us_inaugural.jsonl.gz").read_bytes()).decode().split("\n")
    given = [json.loads(line)["text"] for line in lines if line][:30]
    theirs = Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words(True)), behavior="isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
        ]
    )
    trainer = trainers.UnigramTrainer(vocab_size=1000, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    theirs.train_from_iterator(given, trainer)
    loaded = trained("unigram", tmp_path, given, byte_fallback=False, vocab_size=1002, coverage=1.0)
    assert abs(loaded.vocab_size - theirs.get_vocab_size()) <= 20
    count = sum(len(ids) for ids in loaded.encode_batch(given))
    assert count <= sum(len(encoding.ids) for encoding in theirs.encode_batch(given))


def test_unigram_learns_from_as_many_characters_as_it_is_told(tmp_path: Path) -> None:
    loaded = trained("unigram", tmp_path, max_characters=60, vocab_size=320)
    assert loaded.decode(loaded.encode_batch(texts(1))[0]) == texts(1)[0]
    assert loaded.vocab_size <= 320


@pytest.mark.parametrize("kind", list(PARTS))
@pytest.mark.parametrize("given", [[], [""], ["a\ud800"], ["x" * (1 << 21)]], ids=["none", "empty", "half", "endless"])
def test_what_cannot_be_learnt_from_is_refused(kind: str, given: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        part(kind).train(given)
    assert len(str(caught.value).splitlines()) == 3
    assert f"tokenizer {kind}" in str(caught.value)


@pytest.mark.parametrize("kind", list(PARTS))
def test_a_vocabulary_smaller_than_the_alphabet_is_refused(kind: str) -> None:
    size = 10 if kind == "wordpiece" else 265
    with pytest.raises(UserError, match=f"vocab_size is {size}, smaller than the alphabet") as caught:
        part(kind, vocab_size=size).train(texts())
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    least = int(message.partition("vocab_size=")[2].partition(" ")[0])
    part(kind, vocab_size=least).train(texts())


@pytest.mark.parametrize("kind", list(PARTS))
def test_an_error_of_the_corpus_comes_through(kind: str) -> None:
    def stopping() -> Any:
        yield "some text"
        raise KeyError("stop")

    with pytest.raises(KeyError):
        part(kind).train(stopping())
    with pytest.raises(Fault):
        part(kind).save(Path())


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        ("bpe", {"vocab_size": 259}, "vocab_size"),
        ("bpe", {"coverage": 0.0}, "coverage"),
        ("bpe", {"min_frequency": 0}, "min_frequency"),
        ("unigram", {"shrink": 1.0}, "shrink"),
        ("unigram", {"max_characters": 0}, "max_characters"),
        ("unigram", {"max_piece_length": 0}, "max_piece_length"),
        ("wordpiece", {"alphabet": 0}, "alphabet"),
        ("wordpiece", {"vocab_size": 5}, "vocab_size"),
        ("wordpiece", {"pad_token": "[SEP]"}, "pad_token"),
        ("unigram", {"unknown_token": "unk"}, "unknown_token"),
    ],
)
def test_check_names_the_setting(kind: str, settings: dict[str, Any], key: str) -> None:
    (problem,) = PARTS[kind][1](**settings).check()
    assert key in problem
    assert list(PARTS[kind][1]().check()) == []


def test_wordpiece_learns_nothing_from_white_space() -> None:
    with pytest.raises(UserError) as caught:
        part("wordpiece").train(iter([" \n\t ", "\u3000"]))
    assert len(str(caught.value).splitlines()) == 3
