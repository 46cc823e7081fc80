"""LLaMA's and Chinese-LLaMA's models and GPT-2's tokenizer.json on real corpora, where LMGRAFT_TEST_DATA has them.

Every twelfth line of each file is looked at, and all of them with ``LMGRAFT_TEST_FULL=1``.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as saved
from lmgraft_vocabularies.extended import Extended
from lmgraft_vocabularies.plugin import ExtendedConfig, PretrainedConfig, Protect, Scores
from lmgraft_vocabularies.pretrained import Pretrained
from lmgraft_vocabularies.sentence_model import read_model

DATA = Path(os.environ.get("LMGRAFT_TEST_DATA", "/nowhere"))
TOKENIZERS = DATA / "tokenizer"
EVERY = 1 if os.environ.get("LMGRAFT_TEST_FULL") == "1" else 12
#: Characters from which on sentencepiece's float32 sums round visibly.
LONG = 1000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="LMGRAFT_TEST_DATA is not set"),
]


@cache
def lines(path: Path) -> list[str]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = raw.decode().split("\n")
    if ".jsonl" in path.name:
        found = [line for row in found if row for line in str(json.loads(row).get("text", "")).split("\n")]
    return [line for line in found if line][::EVERY]


def english() -> Iterator[Path]:
    yield from sorted(path for path in (DATA / "corpus").rglob("*") if path.suffix in (".gz", ".txt", ".jsonl"))


def multilingual(prefix: str = "") -> Iterator[Path]:
    yield from sorted((DATA / "multilingual").glob(f"{prefix}*.gz"))


def load(folder: Path, name: str) -> Any:
    part = Pretrained(PretrainedConfig(path=str(TOKENIZERS / name)))
    part.train(())
    part.save(folder)
    return saved.load(folder)


def extended(folder: Path, **settings: Any) -> Any:
    learnt = settings.pop("learnt", [])
    base = settings.pop("base", None)
    part = Extended(ExtendedConfig(**settings))
    if base:
        part.extend(base, learnt)
    else:
        part.train(learnt)
    part.save(folder)
    return saved.load(folder)


def changed(first: Any, second: Any, path: Path) -> int:
    pairs = zip(first.encode_batch(lines(path)), second.encode_batch(lines(path)), strict=True)
    return sum(one != two for one, two in pairs)


@pytest.mark.parametrize(
    ("name", "most"), [("llama2_tokenizer.model", 0), ("chinese_sp.model", 2e-3), ("torchtune_m.model", 2e-3)]
)
def test_ids_are_sentencepieces(tmp_path: Path, name: str, most: float) -> None:
    spm = pytest.importorskip("sentencepiece")
    ours, theirs = load(tmp_path, name), spm.SentencePieceProcessor(model_file=str(TOKENIZERS / name))
    for path in [*english(), *multilingual()]:
        shown = lines(path) if not most else [line for line in lines(path) if len(line) <= LONG]
        found, expected = ours.encode_batch(shown), theirs.encode(shown)
        differing = sum(one != two for one, two in zip(found, expected, strict=True))
        # Unigram: rounding chooses between cuts of equal weight, the more the longer a text is; none is much shorter.
        assert differing <= most * len(found) + (most > 0), path.name
        assert abs(sum(map(len, found)) - sum(map(len, expected))) <= differing, path.name


@pytest.mark.parametrize("scores", [Scores.last, Scores.first, Scores.zero])
def test_llama_with_chinese_pieces(tmp_path: Path, scores: Scores) -> None:
    spm = pytest.importorskip("sentencepiece")
    llama, donor = TOKENIZERS / "llama2_tokenizer.model", TOKENIZERS / "chinese_sp.model"
    base = load(tmp_path / "base", llama.name)
    ours = extended(tmp_path / "out", base_path=str(llama), pieces=str(donor), scores=scores)
    merged = tmp_path / "out" / "tokenizer.model"
    pieces = read_model(merged).pieces
    assert len(pieces) == 49_953 + 1
    assert pieces[-1].text == "<pad>"
    assert pieces[:32_000] == read_model(llama).pieces
    theirs = spm.SentencePieceProcessor(model_file=str(merged))
    for path in multilingual("zh"):
        before, after = (sum(map(len, one.encode_batch(lines(path)))) for one in (base, ours))
        print(f"{path.name}: tokens {before:,} -> {after:,}, {after / before - 1:+.1%}")
        assert after <= 0.7 * before
    if scores is not Scores.zero:  # whose ties tokenizer.json cannot express
        for path in [*english(), *multilingual()]:
            assert ours.encode_batch(lines(path)) == theirs.encode(lines(path)), path.name


def test_llama_with_chinese_pieces_leaves_protected_english_alone(tmp_path: Path) -> None:
    llama, donor = TOKENIZERS / "llama2_tokenizer.model", TOKENIZERS / "chinese_sp.model"
    base, text = load(tmp_path / "base", llama.name), tmp_path / "english.txt"
    text.write_text("\n".join(line for path in english() for line in lines(path)), encoding="utf-8")
    settings = {"base_path": str(llama), "pieces": str(donor)}
    whole = extended(tmp_path / "path", **settings, protect_path=str(text))
    word = extended(tmp_path / "word", **settings, protect=Protect.english)
    counts = {path.name: (changed(base, whole, path), changed(base, word, path)) for path in english()}
    print(whole.vocab_size, word.vocab_size, counts)
    assert not any(count for count, _ in counts.values())
    assert sum(count for _, count in counts.values()) < 500 / EVERY
    for path in multilingual("zh"):
        assert sum(map(len, whole.encode_batch(lines(path)))) < 0.7 * sum(map(len, base.encode_batch(lines(path))))


def test_gpt2_learns_other_languages(tmp_path: Path) -> None:
    base, text = load(tmp_path / "base", "gpt2_tokenizer.json.gz"), tmp_path / "english.txt"
    text.write_text("\n".join(line for path in english() for line in lines(path)), encoding="utf-8")
    languages = {name: [line for path in multilingual(name) for line in lines(path)] for name in ("zh", "tr", "ru")}
    learnt = [line for found in languages.values() for line in found[::2]]
    ours = extended(tmp_path / "out", base=tmp_path / "base", learnt=learnt, new_tokens=2000, protect_path=str(text))
    assert ours.vocab_size == base.vocab_size + 2000
    assert not any(changed(base, ours, path) for path in english())
    for name, found in languages.items():
        before, after = (sum(map(len, one.encode_batch(found[1::2]))) for one in (base, ours))
        print(f"{name}: held-out tokens {before:,} -> {after:,}, {after / before - 1:+.1%}")
        assert after < 0.9 * before
        assert [ours.decode(ids) for ids in ours.encode_batch(found[1:400:2])] == found[1:400:2]
