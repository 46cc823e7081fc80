"""The tokens stage's encoding of rows, without a runner: shards, stops at every place, rows that are refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import Artifact, corpus, examples, rules
from lmgraft.artifacts.corpus import CorpusWriter, shard_name, to_batch
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import build, registry
from lmgraft.seams.data_source import Document
from lmgraft.stages import _encode_rows
from lmgraft.stages._encode_rows import encode_rows, row_summary
from row_fixtures import saved, vocabulary

__all__ = ["saved", "vocabulary"]


@dataclass
class Context:
    """What the stage needs of the runner, without one; ``stop`` ends it after so many documents."""

    work: Path
    out: Path
    inputs: Mapping[str, list[Artifact]]
    name: str = "rows"
    stop: int = -1
    advanced: list[float] = field(default_factory=list)

    def component(self, slot: str) -> tuple[Any, Any]:
        found = registry().get("objective", "sft").component
        return found, found.config(part="sft")

    def part(self, slot: str) -> Any:
        return build(*self.component(slot))

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.advanced.append(amount)

    def alive(self) -> None:
        self.stop -= 1
        if self.stop == -1:
            raise Stopped("stopped")


def chat(number: int, answer: str | None = None) -> Document:
    said = f"{number} {'so ' * (number * 7 % 23)}"
    answer = f"{number} it is" if answer is None else answer
    turns = [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    return Document(id=f"c{number}", messages=turns)


def write_corpus(folder: Path, train: list[Document], validation: list[Document]) -> Path:
    folder.mkdir()
    for split, rows in (("train", train), ("validation", validation)):
        with CorpusWriter(folder / shard_name(split, 0, 1), {"messages"}) as writer:
            writer.write(to_batch(rows, "s"))
    return folder


def context(folder: Path, vocabulary: Path, name: str, stop: int = -1) -> Context:
    inputs = {
        "corpus": [Artifact("corpus", folder, "digest of it")],
        "tokenizer": [Artifact("tokenizer", vocabulary, "")],
    }
    place = folder.parent / name
    shutil.rmtree(place / "out", ignore_errors=True)
    (place / "work").mkdir(parents=True, exist_ok=True)
    (place / "out").mkdir()
    return Context(place / "work", place / "out", inputs, stop=stop)


@pytest.fixture
def chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_encode_rows, "SHARD_TOKENS", 700)
    return write_corpus(tmp_path / "corpus", [chat(n) for n in range(40)], [chat(n) for n in range(40, 46)])


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_shards_hold_the_split_in_order(chats: Path, vocabulary: Path, saved: SavedTokenizer) -> None:
    held = context(chats, vocabulary, "whole")
    encode_rows(held)
    names = sorted(path.name for path in held.out.glob("train-*"))
    assert len(names) > 3
    assert names == [examples.shard_name("train", n, len(names)) for n in range(len(names))]
    assert rules.broken("tokens", held.out) == []
    told = examples.info(held.out)
    assert (told.vocab_size, told.corpus, told.objective.part) == (saved.vocab_size, "digest of it", "sft")
    assert told.objective.settings == {"template": "solar"}
    assert [row.document for row in examples.rows(held.out, "train")] == [f"c{n}" for n in range(40)]
    count = told.splits["train"]
    assert (count.documents, count.units, count.empty) == (40, 40, 0)
    assert count.longest == max(len(row.tokens) - 1 for row in examples.rows(held.out, "train"))
    assert sum(held.advanced) == 46
    summary = dict(row_summary(Artifact("tokens", held.out, "")))
    assert summary["train rows"] == "40"
    assert summary["train tokens"] == f"{count.tokens:,}"
    assert summary["tokens in the longest train row"] == f"{count.longest:,}"


def test_stopped_anywhere_it_ends_with_the_same_bytes_and_encodes_no_sealed_shard_again(
    chats: Path, vocabulary: Path
) -> None:
    whole = context(chats, vocabulary, "whole")
    encode_rows(whole)
    expected = digests(whole.out)
    for stop in range(46):
        first = context(chats, vocabulary, f"stopped {stop}", stop)
        with pytest.raises(Stopped):
            encode_rows(first, 1 + stop % 2)
        assert list(first.out.iterdir()) == [] or stop >= 40  # nothing is published before its split is whole
        sealed = len(list((first.work / "rows").glob("*.json")))
        second = context(chats, vocabulary, f"stopped {stop}")
        second.stop = 1000
        encode_rows(second, 1 + stop % 3)
        assert digests(second.out) == expected
        assert 1000 - second.stop == 46 - _sealed_documents(first.work, sealed, whole.out)


def _sealed_documents(work: Path, sealed: int, whole: Path) -> int:
    """Documents of the shards that were sealed when the stage was stopped: the work folder now holds them all."""
    import pyarrow.parquet as pq

    paths = sorted((work / "rows").glob("train-*.parquet")) + sorted((work / "rows").glob("validation-*.parquet"))
    return sum(pq.read_metadata(path).num_rows for path in paths[:sealed])


def test_threads_change_no_byte(chats: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encode_rows, "BATCH", 2)
    found = []
    for workers in (1, 2, 5):
        held = context(chats, vocabulary, f"by {workers}")
        encode_rows(held, workers)
        found.append(digests(held.out))
    assert found[0] == found[1] == found[2]


def test_refused_rows_are_counted_and_the_first_ones_shown(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_encode_rows, "SHARD_TOKENS", 700)
    rows = [chat(n, "" if n % 4 == 3 else None) for n in range(40)]
    held = context(write_corpus(tmp_path / "corpus", rows, [chat(41)]), vocabulary, "bad")
    with pytest.raises(UserError) as caught:
        encode_rows(held, 2)
    said = str(caught.value)
    assert "stage rows: 10 rows of train are refused" in said
    assert said.count("has no answer to learn") == 4
    assert "more of the same" not in said
    assert list(held.out.iterdir()) == []
    assert not [path for path in held.work.rglob("*") if "partial" in path.name]


def test_a_corpus_without_rows_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    held = context(write_corpus(tmp_path / "corpus", [], [chat(1)]), vocabulary, "none")
    with pytest.raises(UserError, match="stage rows: split train gives no example"):
        encode_rows(held)
    assert corpus.count(tmp_path / "corpus", "train") == 0
