"""Model folders that hold SentencePiece's own file and nothing else, and the unigram models of others."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

import gguf
import gguf_models
from llama_cpp import LlamaCpp
from lmgraft import loading
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.parallelism import Sampling
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_gguf.charsmap import stretches
from lmgraft_gguf.exporter import GGUF
from lmgraft_gguf.plugin import GGUFConfig, Type

ROWS = 608
TEXTS = [
    *NASTY,
    *texts(60),
    *(" " * count + "x" for count in range(1, 12)),
    *("\n" * count + " \t" * count + "y  " for count in range(1, 6)),
    *map(chr, range(0x20)),
    *("", " ", "   ", "\u3000", "a\u2581b", "\ufeffx", "1234567 12.5e3 007 x1y22z333 \u0661\u0662\u0663"),
    "e\u0301\u0323 \u304b\u3099 \uff41\u0301 \u1100\u1161\u11a8 \uff76\uff9e \ufb03 \u2460",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f44d\U0001f3fd <|im_start|>user",
]
LLAMA2 = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
LLAMA2 |= {"remove_extra_whitespaces": False}
UNIGRAM = {"model_type": "unigram"}
KINDS = {"llama": LLAMA2, "llama, no space before": LLAMA2 | {"add_dummy_prefix": False}, "unigram": UNIGRAM}


def data(name: str) -> Path:
    place = Path(os.environ.get("LMGRAFT_TEST_DATA") or "/nonexistent") / name
    if not place.exists():
        pytest.skip(f"LMGRAFT_TEST_DATA names no folder with {name}")
    return place


def folder(place: Path, model: bytes, rows: int = ROWS) -> Path:
    """A model of so many rows, beside ``tokenizer.model`` alone."""
    gguf_models.model(place, "llama", rows)
    (place / "tokenizer.model").write_bytes(model)
    return place


@functools.cache
def trained(**settings: object) -> bytes:
    made = io.BytesIO()
    pytest.importorskip("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter([*texts(300), "na\u00efve \u4f60\u597d \u304c"] * 2), model_writer=made, vocab_size=480,
        hard_vocab_limit=False, minloglevel=3, num_threads=1, **settings,
    )  # fmt: skip
    return made.getvalue()


def exported(model: Path, out: Path) -> Path:
    settings = GGUFConfig()
    settings.part, settings.type = "gguf", Type.f32
    GGUF(settings).export(model, out)
    return out / "model-f32.gguf"


class Readers:
    """A folder with a file that was exported from it, and who reads them."""

    def __init__(self, model: Path, out: Path) -> None:
        self.model, self.file = model, exported(model, out)
        self.ours, self.llama = loading.load_tokenizer(model), LlamaCpp(self.file)

    def differing(self, more: list[str]) -> list[str]:
        """Texts that llama.cpp and lmgraft read by other tokens."""
        return [
            text for text, ids in zip(more, self.ours.encode_batch(more), strict=True) if self.llama.ids(text) != ids
        ]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Readers]:
    """Those of a kind, whose model has a row for each of its pieces and no other."""

    @functools.cache
    def made(name: str) -> Readers:
        content, place = trained(**KINDS[name]), tmp_path_factory.mktemp("made")
        rows = len(pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=content))
        return Readers(folder(place / "model", content, rows), place / "out")

    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of a unigram model, as runs keep it that took it for theirs."""
    from lmgraft import openers

    place = tmp_path_factory.mktemp("kept")
    model = folder(place / "model", trained(**UNIGRAM))
    (place / "kept").mkdir()
    openers.write(model, place / "kept")
    return place / "kept"


def real_texts() -> list[str]:
    found = []
    for file in sorted(data("multilingual").glob("*.gz")):
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as stream:
            text = stream.read(24_000)
        found += [text[at : at + 3000].replace("\0", "") for at in range(0, len(text), 6000)]
    return found


def random_texts(count: int) -> list[str]:
    """Spaces, letters, marks and what joins them, in any order."""
    rng = random.Random(5)
    pool = [*" " * 12, *"abcdeo.,!-_'\"0123\n\t\r</s>", *map(chr, [*range(0x300, 0x330), *range(0x3041, 0x3060)])]
    pool += "\u3099\u309a\u200d\ufe0f\u00a0\u3000\u1100\u1161\u11a8\uff41\uff76\uff9e\u212b\u2581\ufb01\u0e33\u0e01"
    pool += "\U0001f44d\U0001f3fd\U0001f1fa\U0001f1f3\u4f60\u0915\u094d\u0937"
    return ["".join(rng.choices(pool, k=rng.randint(1, 25))) for _ in range(count)]


@pytest.mark.parametrize("name", KINDS)
def test_tokens_are_the_same(readers, name):
    # Which of two cuts of equal weight a run of one letter gets hangs on the last bit of a score there.
    more = [text for text in [*TEXTS, *random_texts(200)] if name != "unigram" or "xxxx" not in text]
    assert readers(name).differing(more) == []


def test_every_character_of_the_table_becomes_the_same(readers):
    made = readers("unigram")
    table = bytes(gguf.GGUFReader(made.file).fields["tokenizer.ggml.precompiled_charsmap"].contents())
    size = int.from_bytes(table[:4], "little")
    units = [int.from_bytes(table[at : at + 4], "little") for at in range(4, 4 + size, 4)]
    known = sorted(stretches(units))
    assert len(known) > 5000
    known += [
        "\u304b\u3099",
        "\uff41\u0301",
        "\u1100\u1161\u11a8",
        "\u1e69",
        "s\u0323\u0307",
        "s\u0307\u0323",
        "\u0e33",
    ]
    lines = ["a".join(known[at : at + 40]) for at in range(0, len(known), 40)]
    assert made.differing(lines) == []


@pytest.mark.parametrize("name", ["llama", "unigram"])
def test_greedy_text_is_the_same_and_padding_has_no_row(readers, name):
    """The padding token that lmgraft adds is behind the model's last row."""
    made = readers(name)
    tokenizer, llama, rows = made.ours, made.llama, checkpoint.read_config(made.model)["vocab_size"]
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (rows + 1, rows)
    fields = gguf.GGUFReader(made.file).fields
    assert len(fields["tokenizer.ggml.tokens"].contents()) == rows
    assert "tokenizer.ggml.padding_token_id" not in fields
    assert fields["tokenizer.ggml.unknown_token_id"].contents() == 0
    ids = [1, *tokenizer.encode_batch(["The only way is"])[0]]
    ours = loading.load(made.model, precision="float32").generate(ids, Sampling(max_new_tokens=16, temperature=0))
    theirs = llama.greedy(ids, 16)
    assert list(ours)[: len(theirs)] == theirs
    assert len(theirs) > 2
    spelt = tokenizer.encode_batch(["Only the way, to find 12."])[0]
    assert llama.text(spelt).strip() == tokenizer.decode(spelt, skip_special=True).strip()


@pytest.mark.parametrize(
    ("name", "rows"), [("llama2_tokenizer.model", 32_000), ("chinese_sp.model", 20_000), ("torchtune_m.model", 2000)]
)
def test_published_models_on_real_text(tmp_path, name, rows):
    model = folder(tmp_path / "model", (data("tokenizer") / name).read_bytes(), rows)
    assert Readers(model, tmp_path / "out").differing([*TEXTS, *real_texts()]) == []


def test_a_tokenizer_json_made_of_such_a_file_is_the_same(tmp_path, kept):
    """Text that spells a special token is cut in both."""
    gguf_models.model(tmp_path / "model", "llama", ROWS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(kept / name, tmp_path / "model" / name)
    made = Readers(tmp_path / "model", tmp_path / "out")
    assert made.differing([text for text in TEXTS if "xxxx" not in text]) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (LLAMA2 | {"byte_fallback": False}, "byte_fallback"),
        (LLAMA2 | {"normalization_rule_name": "nmt_nfkc"}, "table of characters"),
        (LLAMA2 | {"remove_extra_whitespaces": True}, "superfluous spaces"),
        (LLAMA2 | {"user_defined_symbols": "<sep>"}, "splits text before pieces are made"),
        (UNIGRAM | {"user_defined_symbols": "<sep>"}, "user-defined pieces"),
        (UNIGRAM | {"byte_fallback": True}, "has none for them"),
        (UNIGRAM | {"add_dummy_prefix": False}, "llama.cpp puts one"),
    ],
)
def test_what_llama_cpp_would_read_otherwise_is_refused(tmp_path, settings, told):
    model = folder(tmp_path / "model", trained(**settings))
    with pytest.raises(UserError, match=told):
        exported(model, tmp_path / "out")
    assert not (tmp_path / "out" / "model-f32.gguf").exists()


def test_a_file_that_is_no_model_is_told_by_who_opens_it(tmp_path):
    model = folder(tmp_path / "model", b"IQ== 0\nIg== 1\n")
    with pytest.raises(UserError, match="is no SentencePiece model"):
        exported(model, tmp_path / "out")


def test_a_damaged_table_is_told_without_a_file_that_is_not_there(tmp_path, kept):
    """What a letter with a mark becomes stands behind the end; single characters are sound."""
    steps = json.loads((kept / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["normalizers"]
    table = base64.b64decode(next(step for step in steps if step["type"] == "Precompiled")["precompiled_charsmap"])
    units = list(struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]))[1:]
    base, place = units[0] >> 10, 0
    for byte in "\u304b\u3099".encode():
        place = base ^ byte
        base = place ^ (units[place] >> 10 << ((units[place] & 1 << 9) >> 6))
    broken = struct.pack("<I", units[place] | 0x1FFFFF << 10)
    damaged = table[: 4 + 4 * place] + broken + table[8 + 4 * place :]
    model = folder(tmp_path / "model", trained(**UNIGRAM).replace(table, damaged))
    with pytest.raises(UserError, match=r"the tokenizer of [^\0]*leads out of itself") as told:
        exported(model, tmp_path / "out")
    assert "tokenizer.json" not in str(told.value)


def test_a_table_that_is_looked_up_by_graphemes(tmp_path, kept):
    """T5's own tokenizer.json: the library takes whole graphemes, llama.cpp characters."""
    model = folder(tmp_path / "model", trained(**UNIGRAM))
    content = json.loads((kept / "tokenizer.json").read_text(encoding="utf-8"))
    steps = content["normalizer"]["normalizers"]
    content["normalizer"]["normalizers"] = [step for step in steps if step.get("content") != "\U0010fffd"]
    (model / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(kept / "tokenizer_config.json", model)
    with pytest.raises(UserError, match="whole graphemes"):
        exported(model, tmp_path / "out")


@pytest.mark.parametrize("fallback", [True, False])
def test_what_unigram_and_wordpiece_train_here(tmp_path, fallback):
    gguf_models.subword(tmp_path / "ours", "unigram", 500, byte_fallback=fallback)
    gguf_models.model(tmp_path / "ours", "llama", ROWS)
    with pytest.raises(UserError, match="has none for them" if fallback else "splits text before pieces are made"):
        exported(tmp_path / "ours", tmp_path / "out")
    gguf_models.subword(tmp_path / "words", "wordpiece", 500)
    gguf_models.model(tmp_path / "words", "llama", ROWS)
    with pytest.raises(UserError, match="separator behind every prompt"):
        exported(tmp_path / "words", tmp_path / "out")
