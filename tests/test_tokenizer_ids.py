"""Ids of every trained tokenizer are Hugging Face's own, on real text in many scripts and on text that breaks things.

A vocabulary is learnt from a spread of the documents; then documents, whole, go through lmgraft (which cuts long ones)
and ``tokenizers``, and a part of them through ``transformers``. With ``LMGRAFT_TEST_FULL=1`` these are all documents
(23 MB); otherwise every n-th of each file, as many as make :data:`SHARE` characters, and a file's only document is cut
there. Without real data the kit's texts stand in.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import tokenizer as saved
from lmgraft.artifacts.tokenizer import library_threads
from lmgraft.registry import registry
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.testing.inputs import NASTY, texts
from tokenizers import Tokenizer

FULL = os.environ.get("LMGRAFT_TEST_FULL") == "1"
#: Characters to learn from, and characters of each file (some twenty) that are encoded.
SAMPLE = 1 << (20 if FULL else 19)
SHARE = 80_000
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("byte_bpe", {"vocab_size": 2000}),
    "llama3": ("byte_bpe", {"vocab_size": 2000, "pattern": "llama3"}),
    "qwen2": ("byte_bpe", {"vocab_size": 2000, "pattern": "qwen2"}),
    "bpe": ("bpe", {"vocab_size": 3000, "coverage": 0.98, "special_tokens": ["<|im_start|>"]}),
    "unigram": ("unigram", {"vocab_size": 3000, "coverage": 0.98}),
    "wordpiece": ("wordpiece", {"vocab_size": 4000}),
    "uncased": ("wordpiece", {"vocab_size": 4000, "lowercase": True}),
}
EXACT = ["gpt2", "llama3", "qwen2", "bpe", "unigram"]
BYTE_LEVEL = ["gpt2", "llama3", "qwen2"]

#: What breaks careless splitting: beyond the kit's texts.
HARD = [
    *NASTY,
    " " * 10_000,
    "a" + " " * 10_000 + "b" + "\t" * 300 + "\n" * 3000 + "c",
    "\r\n\r\n\r\n a\r\n\n\r b \r\n\tc\n \n  d",
    "\x00\x01\x02\x1b[0m\x7f\x80\x9f\u2028\u2029\u0085\ufeff\ufeffBOM",
    "a\u00a0b\u202fc\u2007d\u3000e\u180ef\u200bg\u2060h",
    "e\u0301 \u0301e o\u0308\u0304 \u1e9b\u0323 \uac00\u11a8 \u1100\u1161 x\u0336\u0335",
    "\u0627\u0644\u0652\u062d\u064e\u0645\u0652\u062f \u05d1\u05b0\u05bc\u05e8\u05b5\u05d0 \u202eab\u202c \u2067x",
    "\U0001f469\U0001f3ff\u200d\U0001f680 \U0001f3f4\U000e0067\U000e0062\U000e007f 1\ufe0f\u20e3 \U0001f1e9\U0001f1ea",
    "\U00020000\U0002a6df \U0001d504\U0001d7d8 \U0010ffff \ufdd0 \uffff \ue000",
    "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f \u0e01\u0e33\u0e25\u0e31\u0e07 \u1780\u17d2\u1798 \u0b95\u0bcd",
    "1234567890 12,345,678.90 \u00bd\u00b2\u2163 \u0e51\u0e52 \u4e00\u4e8c 0x41 1e-9 \u0664\u0665\u0666",
    "I'll YOU'LL he's 'S 't ''re 'VE'd \u2019s can't've",
    "<0x41> <0x0A></s><unk><pad> [UNK] [PAD][SEP] ##ing <|endoftext|><|im_start|>user",
    "x" * 5000 + "9" * 5000 + "!" * 5000 + "\u6f22" * 5000,
    "",
    " ",
    "\n",
    "  \n\n   \t x",
]


def _read(path: Path) -> Iterator[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    if ".jsonl" not in path.suffixes:
        yield text
        return
    for line in text.split("\n"):
        if line:
            row = json.loads(line)
            yield row["text"] if "text" in row else "\n".join(str(value) for value in row.values())


def _spread(found: list[str]) -> list[str]:
    """Documents of one file that hold about ``SHARE`` characters, evenly over it."""
    every = max(1, round(sum(map(len, found)) / SHARE))
    return found if FULL else [text[: 3 * SHARE] for text in found[::every]]


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """Documents of every file of the real corpora."""
    named = os.environ.get("LMGRAFT_TEST_DATA")
    if not named:
        scripts = [
            "\u4f60\u597d\u4e16\u754c\uff0c",
            "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 ",
            "\u011f\u00fc\u015f\u00e7\u0131 ",
        ]
        made = [script * 40 + text for script in scripts for text in texts(60, seed=len(script))]
        return [*made, "\n\n".join(texts(2000, seed=5))]
    files = sorted(path for top in ("corpus", "multilingual") for path in (Path(named) / top).rglob("*"))
    files = [path for path in files if {".jsonl", ".txt"} & set(path.suffixes)]
    return [text for path in files for text in _spread(list(_read(path)))]


@pytest.fixture(scope="session")
def sample(documents: list[str]) -> list[str]:
    share = SAMPLE / sum(map(len, documents))
    rng = random.Random(0)
    return [text[: max(200, int(len(text) * share * 2))] for text in documents if rng.random() < 0.5]


@pytest.fixture(scope="session")
def folders(sample: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, (part, values) in PARTS.items():
        found[name] = tmp_path_factory.mktemp(name)
        _made(part, values, sample, found[name])
    return found


def _made(part: str, values: dict[str, Any], learnt: list[str], folder: Path) -> None:
    from lmgraft.registry import build
    from lmgraft.testing.composing import compose_part

    component = registry().get("tokenizer", part).component
    made: Any = build(component, compose_part("tokenizer", part, values, folder))
    made.train(iter(learnt))
    out = folder / "saved"
    out.mkdir()
    saved.save(made, component, out)


def _reference(folder: Path) -> Tokenizer:
    found = Tokenizer.from_file(str(folder / "saved" / saved.FILE))
    found.encode_special_tokens = True
    return found


def _ids(tokenizer: Tokenizer, given: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(given, add_special_tokens=False)]


def _first_difference(given: list[str], ours: list[list[int]], theirs: list[list[int]]) -> str:
    for text, one, other in zip(given, ours, theirs, strict=True):
        if one != other:
            at = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), -1)
            return f"{text[:60]!a}: id {at} is {one[at : at + 5]}, theirs {other[at : at + 5]}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXACT, "wordpiece"])
def test_all_documents_get_the_librarys_ids(name: str, folders: dict[str, Path], documents: list[str]) -> None:
    ours, theirs = saved.load(folders[name] / "saved"), _reference(folders[name])
    with library_threads():
        for start in range(0, len(documents), 500):
            batch = documents[start : start + 500]
            found, expected = saved.encode_arrays(ours, batch), _ids(theirs, batch)
            for text, one, other in zip(batch, found, expected, strict=True):
                assert one.tolist() == other, f"{text[:60]!a}"
                if name in EXACT:
                    assert ours.decode(other) == text.replace("\u2581", " ")


@pytest.mark.parametrize("name", list(PARTS))
def test_hard_texts_get_the_librarys_ids(name: str, folders: dict[str, Path]) -> None:
    ours, theirs = saved.load(folders[name] / "saved"), _reference(folders[name])
    assert _first_difference(HARD, ours.encode_batch(HARD), _ids(theirs, HARD)) == ""
    if name in EXACT:
        assert [ours.decode(ids) for ids in ours.encode_batch(HARD)] == HARD


@pytest.mark.parametrize("name", list(PARTS))
def test_transformers_reads_the_folder(name: str, folders: dict[str, Path], documents: list[str]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folders[name] / "saved")
    ours = saved.load(folders[name] / "saved")
    given = [*HARD, *(text[:2000] for text in documents[:: max(1, len(documents) // 300)])]
    found = ours.encode_batch(given)
    expected = theirs(given, split_special_tokens=True)["input_ids"]  # with whatever it adds by itself: nothing
    assert _first_difference(given, found, expected) == ""
    assert [theirs.decode(ids) for ids in found] == [ours.decode(ids) for ids in found]
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.end_id, ours.pad_id)
    assert theirs.bos_token_id == ours.end_id


@pytest.mark.parametrize("name", list(PARTS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.text(alphabet=" \n\r\t'aB9-.<|>\u00e9\u0301\u6f22\u200d\ufeff", max_size=60))
def test_any_text_gets_the_librarys_ids(name: str, folders: dict[str, Path], text: str) -> None:
    ours, theirs = _loaded(folders[name])
    ids = ours.encode_batch([text])[0]
    assert ids == _ids(theirs, [text])[0]
    if name in EXACT:
        assert ours.decode(ids) == text.replace("\u2581", " ")
        assert sum(ours.token_bytes()[index] for index in ids) == len(text.replace("\u2581", " ").encode())


_open: dict[Path, tuple[TextTokenizer, Tokenizer]] = {}


def _loaded(folder: Path) -> tuple[TextTokenizer, Tokenizer]:
    if folder not in _open:
        _open[folder] = saved.load(folder / "saved"), _reference(folder)
    return _open[folder]


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_tokenizers_have_no_unknown_token(name: str, folders: dict[str, Path], documents: list[str]) -> None:
    content = json.loads((folders[name] / "saved" / saved.FILE).read_text(encoding="utf-8"))
    assert content["model"]["unk_token"] is None
    ours = saved.load(folders[name] / "saved")
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 7)]))
    assert ours.decode(ours.encode_batch([every])[0]) == every


@pytest.mark.parametrize("name", ["wordpiece", "uncased"])
def test_the_unknown_token_stands_where_bert_has_it(name: str, folders: dict[str, Path], documents: list[str]) -> None:
    """BERT's own tokenizer in Python, word for word, from the same vocabulary."""
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    theirs = _reference(folders[name])
    vocabulary = sorted(theirs.get_vocab().items(), key=lambda item: item[1])
    path = folders[name] / "vocab.txt"
    path.write_text("\n".join(piece for piece, _ in vocabulary) + "\n", encoding="utf-8")
    bert = legacy.BertTokenizerLegacy(str(path), do_lower_case=name == "uncased")
    ours = saved.load(folders[name] / "saved")
    unknown = theirs.token_to_id("[UNK]")
    # It takes spelt special tokens for special, composes characters, and has Python's Unicode tables.
    given = [*HARD, *(text[:1500] for text in documents[:: max(1, len(documents) // 300)])]
    given = [unicodedata.normalize("NFC", text) for text in given if not re.search(r"\[[A-Z]+\]", text)]
    given = [text for text in given if not {"Cn", "Co"} & {unicodedata.category(letter) for letter in text}]
    assert len(given) > 100
    seen = 0
    for text in given:
        expected = bert.convert_tokens_to_ids(bert.tokenize(text))
        found = ours.encode_batch([text])[0]
        assert found == expected, ascii(text[:80])
        seen += found.count(unknown)
    assert seen > 100 or not os.environ.get("LMGRAFT_TEST_DATA")
    known = ours.encode_batch(["the " + "\U0001f9ec" + " " + "x" * 101 + " the"])[0]
    assert known.count(unknown) == 2


def test_sentencepiece_gives_the_ids_of_bpe(folders: dict[str, Path], documents: list[str]) -> None:
    """The library that LLaMA-2's tokenizer was made with, and so llama.cpp, merges as the saved file does."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model_pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    content = json.loads((folders["bpe"] / "saved" / saved.FILE).read_text(encoding="utf-8"))
    special = {token["content"] for token in content["added_tokens"]}
    proto = model_pb2.ModelProto()
    for piece, index in sorted(content["model"]["vocab"].items(), key=lambda item: item[1]):
        kinds = {"<unk>": 2, **dict.fromkeys(special - {"<unk>"}, 3), **{f"<0x{byte:02X}>": 6 for byte in range(256)}}
        proto.pieces.add(piece=piece, score=-float(index), type=kinds.get(piece, 1))
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.unk_id, trainer.eos_id, trainer.pad_id = 2, True, 0, 1, 2
    trainer.bos_id, trainer.vocab_size = -1, len(proto.pieces)
    normalizer.name, normalizer.add_dummy_prefix = "identity", False
    normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = False, True
    theirs = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    ours = saved.load(folders["bpe"] / "saved")
    given = [text[:20_000] for text in documents[:: max(1, len(documents) // 300)] if "\0" not in text]
    assert _first_difference(given, ours.encode_batch(given), [theirs.encode(text) for text in given]) == ""
