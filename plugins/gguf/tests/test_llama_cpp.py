"""What llama.cpp makes of the files: the same tokens, the same probabilities, the same text, the same chats."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

import gguf
import gguf_models
import numpy as np
import torch
import xllamacpp
from gguf_models import FAMILIES, byte_bpe, subword
from llama_cpp import LlamaCpp
from lmgraft import chat, loading
from lmgraft.artifacts import tokenizer as saved
from lmgraft.generation.prompts import prompts
from lmgraft.seams.parallelism import Sampling
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_gguf.exporter import GGUF
from lmgraft_gguf.plugin import GGUFConfig, Type
from lmgraft_gguf.quantise import Kind, as_bytes
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors, trainers

ROWS = 608
TEXTS = [
    *NASTY,
    *texts(60),
    *(" " * count + "x" for count in range(1, 12)),
    *("\n" * count + " \t" * count + "y  " for count in range(1, 6)),
    "1234567 12.5e3 007 x1y22z333 \u0661\u0662\u0663\u0664",
    "I'll we'Re they'VE \u2019s don't",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f44d\U0001f3fd <|im_start|>user",
]
#: A piece that holds U+0000 cannot be read from a GGUF file, whose strings llama.cpp takes as C's.
WITHOUT_NULL = [text for text in TEXTS if "\0" not in text]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    byte_bpe(folder)
    return folder


def exported(model: Path, out: Path, kind: Type = Type.f32) -> Path:
    settings = GGUFConfig()
    settings.part, settings.type = "gguf", kind
    GGUF(settings).export(model, out)
    return out / f"model-{kind.value}.gguf"


def dressed(model: Path, words: Path) -> Path:
    """The model with this tokenizer."""
    model.mkdir(parents=True, exist_ok=True)
    for name in saved.names(words):
        shutil.copy(words / name, model / name)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_the_same(tmp_path, words, family):
    """Probabilities within 1e-4, or 3e-3 where ggml looks GELU up in a table of 16-bit numbers; greedy text equal."""
    folder = dressed(tmp_path / "model", words)
    theirs = gguf_models.model(folder, family, ROWS)
    llama = LlamaCpp(exported(folder, tmp_path / "out"))
    ids = [0, *llama.ids("The only way is to find water")]
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    found = llama.logprobs(ids, ROWS)
    assert len(found) == ROWS
    tolerance = 3e-3 if family.startswith(("gpt2", "falcon", "bloom")) else 1e-4
    assert max(abs(wanted[index].item() - value) for index, value in found.items() if value > -30) < tolerance
    ours = loading.load(folder, precision="float32").generate(ids, Sampling(max_new_tokens=16, temperature=0))
    end = llama.greedy(ids, 16)
    assert list(ours)[: len(end)] == end
    assert len(end) > 2


def tokens_differ(folder: Path, out: Path, more: list[str] = TEXTS) -> list[str]:
    """Texts that llama.cpp and lmgraft read by other tokens."""
    ours, llama = saved.load(folder), LlamaCpp(exported(folder, out))
    return [text for text in more if llama.ids(text) != ours.encode_batch([text])[0]]


@pytest.mark.parametrize("pattern", ["gpt2", "llama3", "qwen2"])
def test_byte_level_tokens_are_the_same(tmp_path, pattern):
    byte_bpe(tmp_path / "model", pattern)
    gguf_models.model(tmp_path / "model", "llama", ROWS)
    assert tokens_differ(tmp_path / "model", tmp_path / "out") == []


@pytest.mark.parametrize("size", [400, 600])
def test_sentencepiece_tokens_are_the_same(tmp_path, size):
    subword(tmp_path / "model", "bpe", size)
    gguf_models.model(tmp_path / "model", "llama", ROWS)
    # There U+2581 is a space, as in SentencePiece; both say so.
    assert tokens_differ(tmp_path / "model", tmp_path / "out", [*WITHOUT_NULL, "a\u2581b"]) == []


def test_sentencepiece_models_of_others_with_a_space_before(tmp_path):
    """LLaMA-2's file puts a space before a text."""
    subword(tmp_path / "model", "bpe", 500)
    file = tmp_path / "model" / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [prepend, content["normalizer"]]}
    file.write_text(json.dumps(content), encoding="utf-8")
    gguf_models.model(tmp_path / "model", "llama", ROWS)
    assert tokens_differ(tmp_path / "model", tmp_path / "out", WITHOUT_NULL) == []


def test_unigram_of_others(tmp_path, words):
    """Pieces with scores and no rule before them: T5's way. What ``unigram`` trains here splits words by a pattern."""
    from lmgraft.errors import UserError

    subword(tmp_path / "ours", "unigram", 500, byte_fallback=False)
    gguf_models.model(tmp_path / "ours", "llama", ROWS)
    with pytest.raises(UserError, match="splits text before pieces are made"):
        exported(tmp_path / "ours", tmp_path / "out")
    folder = dressed(tmp_path / "model", tmp_path / "ours")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False}
    for scheme in ("never", "first"):
        content["pre_tokenizer"] = {**metaspace, "prepend_scheme": scheme}
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        gguf_models.model(folder, "llama", ROWS)
        assert tokens_differ(folder, tmp_path / scheme, [*texts(60)[::4], "two  spaces, and 12 \u4f60"]) == []


FOREIGN = {
    "bloom": [
        pre_tokenizers.Split(Regex(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
    "falcon": [
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ],
    "starcoder": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_patterns_of_other_families(tmp_path, words, name):
    """As their files have them, with merges learnt by them. Plain texts: llama.cpp's own patterns differ from these
    files where digits or marks of other scripts meet."""
    folder = dressed(tmp_path / "model", words)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(FOREIGN[name])
    special = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*texts(200), "call 12345 or 007"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    gguf_models.model(folder, "llama", ROWS)
    assert tokens_differ(folder, tmp_path / "out", [*texts(60)[::4], "def f(x):  return x + 12345 (or 67)"]) == []
    reader = gguf.GGUFReader(tmp_path / "out" / "model-f32.gguf")
    assert reader.fields["tokenizer.ggml.pre"].contents() == name


def test_real_text_of_many_languages(tmp_path, words):
    data = Path(os.environ.get("LMGRAFT_TEST_DATA") or "/nonexistent") / "multilingual"
    if not data.is_dir():
        pytest.skip("LMGRAFT_TEST_DATA names no folder with multilingual/")
    found = []
    for file in sorted(data.glob("*.gz")):
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as stream:
            text = stream.read(60_000)
        found += [text[at : at + 3000].replace("\0", "") for at in range(0, len(text), 6000)]
    for pattern in ("gpt2", "llama3", "qwen2"):
        byte_bpe(tmp_path / pattern, pattern)
        gguf_models.model(tmp_path / pattern, "llama", ROWS)
        assert tokens_differ(tmp_path / pattern, tmp_path / f"{pattern}-out", found) == []


@pytest.mark.parametrize("template", ["solar", "chatml", "alpaca"])
def test_chats_are_fed_the_same(tmp_path, template):
    """The text of a chat, and its ids: special tokens count where the template writes them, the begin token once."""
    byte_bpe(tmp_path / "model", template=template)
    gguf_models.model(tmp_path / "model", "llama", ROWS)
    llama, tokenizer = LlamaCpp(exported(tmp_path / "model", tmp_path / "out")), saved.load(tmp_path / "model")
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What  is 12 + 30?\n\nTell me."},
        {"role": "assistant", "content": "42"},
        {"role": "user", "content": "caf\u00e9 \U0001f44d"},
    ]
    source = tokenizer.chat_template
    assert source
    ours = chat.render(talk, source, add_generation_prompt=True)
    ours = ours.replace(chat.MARK, "<|endoftext|>").replace(chat.BEGIN, "<|endoftext|>")
    text = llama.rendered(talk)
    # llama.cpp takes the begin token off the text, and puts its id before it.
    assert text == ours or "<|endoftext|>" + text == ours
    ids = llama.ids(text.removeprefix("<|endoftext|>"), special=True, parse=True)
    assert ids == tokenizer_ids(tokenizer, ours)
    assert ids[0] == tokenizer.end_id != ids[1]


def tokenizer_ids(tokenizer, text: str) -> list[int]:
    """A rendered chat as one text, special tokens by their names."""
    special, ids, rest = tokenizer.special_ids(), [], text
    while rest:
        at = {name: rest.find(name) for name in special if name in rest}
        name = min(at, key=lambda one: at[one]) if at else None
        end = at[name] if name else len(rest)
        ids += tokenizer.encode_batch([rest[:end]])[0] if end else []
        ids += [special[name]] if name else []
        rest = rest[end + len(name or "") :]
    return ids


def test_a_text_begins_with_what_lmgraft_puts_before_it(tmp_path, words):
    folder = dressed(tmp_path / "model", words)
    gguf_models.model(folder, "llama", ROWS)
    llama, tokenizer = LlamaCpp(exported(folder, tmp_path / "out")), saved.load(folder)
    assert llama.ids("some text", special=True) == [tokenizer.end_id, *tokenizer.encode_batch(["some text"])[0]]


BEGINNINGS = {
    "its own": ({}, True, None),
    "its own, with a template": ({"add_bos_token": True, "bos_token": "<|im_start|>"}, False, "{{ bos_token }}x"),
    "none, and no template": ({"add_bos_token": False, "bos_token": "<|im_start|>"}, True, None),
    "another for chats": ({"bos_token": "<|im_start|>"}, False, None),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_text_begins_as_somebody_elses_tokenizer_says(tmp_path, words, name):
    """Llama 3's writes <|begin_of_text|> by its post-processor, others' files say it by add_bos_token, BLOOM's names a
    bos_token that it never writes."""
    told, processed, template = BEGINNINGS[name]
    folder = dressed(tmp_path / "model", words)
    gguf_models.model(folder, "llama", ROWS)
    if processed:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        index = tokenizer.token_to_id("<|im_start|>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", pair="$A $B", special_tokens=[("<|im_start|>", index)]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | told | ({"chat_template": template} if template else {})
    file.write_text(json.dumps(config), encoding="utf-8")
    llama, tokenizer = LlamaCpp(exported(folder, tmp_path / "out")), saved.load(folder)
    ours = prompts(folder).text("some text")
    assert llama.ids("some text", special=True) == ours == [tokenizer.first_id, *ours[1:]]
    assert (tokenizer.first_id != tokenizer.end_id) == name.startswith("its own")


@pytest.mark.parametrize("kind", [Type.f16, Type.q8_0, Type.q4_0])
def test_rounded_weights_compute_nearly_the_same(tmp_path, words, kind):
    folder = dressed(tmp_path / "model", words)
    gguf_models.model(folder, "llama", ROWS)
    whole = LlamaCpp(exported(folder, tmp_path / "out"))
    rounded = LlamaCpp(exported(folder, tmp_path / "out", kind))
    ids = [0, *whole.ids("The only way is to find water")]
    before, after = whole.logprobs(ids, ROWS), rounded.logprobs(ids, ROWS)
    error = sum(abs(before[index] - after[index]) for index in before) / len(before)
    assert error < {Type.f16: 0.005, Type.q8_0: 0.1, Type.q4_0: 1.0}[kind]
    sizes = {one: (tmp_path / "out" / f"model-{one.value}.gguf").stat().st_size for one in (Type.f32, kind)}
    assert sizes[kind] < sizes[Type.f32]


def test_weights_are_rounded_as_llama_cpp_rounds_them():
    """Its own function on the same numbers gives the same bytes."""
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    if not hasattr(library, "ggml_quantize_chunk"):
        pytest.skip("this build of xllamacpp does not offer ggml_quantize_chunk")
    own = library.ggml_quantize_chunk
    own.restype = ctypes.c_size_t
    own.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    numbers = np.random.default_rng(7).normal(0, 0.05, (64, 256)).astype(np.float32)
    numbers[3], numbers[4, :32] = 0.0, 1e-9
    for kind in (Kind.Q8_0, Kind.Q4_0):
        ours = as_bytes(numbers, kind, "w")
        theirs = np.zeros(ours.size, np.uint8)
        size = own(int(kind), numbers.ctypes.data, theirs.ctypes.data, 0, 64, 256, None)
        assert size == ours.size
        assert np.array_equal(ours, theirs), kind
