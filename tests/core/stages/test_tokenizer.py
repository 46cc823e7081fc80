"""The stage ``tokenizer`` on a small corpus written here, with the real part byte_bpe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import Artifact
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.component import Component
from lmgraft.errors import Stopped, UserError
from lmgraft.stages.plugin import TokenizerStage
from lmgraft.stages.tokenizer import TrainTokenizer, sample
from lmgraft_byte_bpe.plugin import ByteBPEConfig, lmgraft_tokenizer
from lmgraft_byte_bpe.tokenizer import ByteBPE

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "it's",
    "raining",
    "in",
    "1999",
    "über",
    "漢字",
]


def text(number: int) -> str:
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(40)) + f" {number}\n"


def write_corpus(folder: Path, train: int = 300, validation: int = 20) -> Path:
    folder.mkdir(parents=True)
    sizes = {}
    for split, texts in (
        ("train", [text(n) for n in range(train)]),
        ("validation", [text(-n) for n in range(1, validation + 1)]),
    ):
        ids = [f"s/{split}{n}" for n in range(len(texts))]
        columns = {"id": ids, "text": texts, "source": ["s"] * len(ids), "group": ids, "meta": ["{}"] * len(ids)}
        schema = pa.schema([(name, pa.string()) for name in columns])
        if texts or split == "train":
            pq.write_table(pa.table(columns, schema=schema), folder / f"{split}-00000-of-00001.parquet")
        sizes[split] = sum(len(t.encode()) for t in texts)
    (folder / "funnel.json").write_text(json.dumps({"bytes": sizes}))
    return folder


@dataclass
class Context:
    """What a stage needs of the runner, without one."""

    out: Path
    inputs: Mapping[str, list[Artifact]]
    name: str = "tokenizer"
    asked: int = 0
    stop: bool = False
    advanced: list[float] = field(default_factory=list)

    def part(self, path: str) -> Any:
        assert path == "tokenizer"
        return ByteBPE(ByteBPEConfig(vocab_size=400))

    def component(self, path: str) -> tuple[Component[Any], ByteBPEConfig]:
        assert path == "tokenizer"
        (component,) = lmgraft_tokenizer()
        return component, ByteBPEConfig(vocab_size=400)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.advanced.append(amount)

    def alive(self) -> None:
        if self.stop:
            raise Stopped


def run(corpus: Path, out: Path, **settings: Any) -> TrainTokenizer:
    out.mkdir()
    stage = TrainTokenizer(TokenizerStage(**settings))
    stage.run(Context(out, {"corpus": [Artifact("corpus", corpus, "", "corpus")]}))  # type: ignore[arg-type]
    return stage


def test_it_learns_and_measures(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    stage = run(corpus, tmp_path / "out")
    saved = tokenizers.load(tmp_path / "out")
    assert saved.decode(saved.encode_batch([text(5)])[0]) == text(5)
    summary = dict(stage.summary(Artifact("tokenizer", tmp_path / "out", "")))
    held_out = [text(-n) for n in range(1, 21)]
    ratio = sum(len(t.encode()) for t in held_out) / sum(map(len, saved.encode_batch(held_out)))
    assert summary == {
        "vocabulary": f"{saved.vocab_size}",
        "bytes a token (validation)": f"{ratio:.2f}",
        "tokens a word": f"{sum(map(len, saved.encode_batch(held_out))) / sum(len(t.split()) for t in held_out):.2f}",
    }
    assert ratio > 2


def test_without_held_out_text_it_measures_on_the_training_text(tmp_path: Path) -> None:
    stage = run(write_corpus(tmp_path / "corpus", validation=0), tmp_path / "out")
    assert "bytes a token (train)" in dict(stage.summary(Artifact("tokenizer", tmp_path / "out", "")))


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for name in ("a", "b"):
        run(corpus, tmp_path / name, sample_bytes=20_000)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    run(corpus, tmp_path / "c", sample_bytes=5_000)
    assert (tmp_path / "c/tokenizer.json").read_bytes() != (tmp_path / "a/tokenizer.json").read_bytes()


def test_a_sample_is_spread_evenly() -> None:
    texts = [text(n) for n in range(4000)]
    taken = list(sample(iter(texts), 0.25))
    total = sum(map(len, texts))
    assert abs(sum(map(len, taken)) / total - 0.25) < 0.03
    for quarter in range(4):
        part = set(texts[quarter * 1000 : (quarter + 1) * 1000])
        assert 180 < sum(t in part for t in taken) < 320
    for phase in range(2):  # sources that take turns are both heard
        assert 350 < sum(t in set(texts[phase::2]) for t in taken) < 650
    assert list(sample(iter(texts), 1.5)) == texts
    assert list(sample(iter(texts), 0.25)) == taken


def test_long_documents_are_cut_and_a_tiny_share_is_not_empty() -> None:
    book = "word and word\n" * 100_000
    share = sum(map(len, sample(iter([book, book]), 0.5))) / (2 * len(book))
    assert 0.2 < share < 0.8
    assert "".join(sample(iter([book]), 1)) == book
    assert len(list(sample(iter([book]), 1e-9))) == 1
    assert list(sample(iter([]), 0.5)) == []


def test_an_empty_corpus_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to train on"):
        run(write_corpus(tmp_path / "corpus", train=0), tmp_path / "out")


def test_a_signal_stops_it(tmp_path: Path) -> None:
    corpus = Artifact("corpus", write_corpus(tmp_path / "corpus"), "")
    with pytest.raises(Stopped):
        TrainTokenizer(TokenizerStage()).run(Context(tmp_path, {"corpus": [corpus]}, stop=True))  # type: ignore[arg-type]


def test_progress_counts_the_text(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    context = Context(tmp_path / "out", {"corpus": [Artifact("corpus", corpus, "")]})
    TrainTokenizer(TokenizerStage()).run(context)  # type: ignore[arg-type]
    sizes = json.loads((corpus / "funnel.json").read_text())["bytes"]
    assert sum(context.advanced) == sizes["train"] + sizes["validation"]  # learnt from, then measured
