"""The corpus artifact: what is written is what is read, by lmgraft and by datasets."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import corpus
from lmgraft.artifacts.corpus import CorpusWriter, from_batch, shard_name, to_batch
from lmgraft.errors import Fault, UserError
from lmgraft.seams.data_source import Document

PLAIN = [
    Document(id="s/1", text="Ein Satz.", group="a", meta={"b": 1, "a": ["ü", None]}),
    Document(id="s/2", text="", group="b"),
    Document(id="s/3", text="第三", group="a", meta={"odd": "\ud800"}),
]
CHATS = [
    Document(id="s/4", messages=[{"role": "user", "content": "hé"}, {"role": "assistant", "content": "yo"}], group="c"),
    Document(id="s/5", messages=[], group="d"),
    Document(id="s/6", text="plain", group="e"),
    Document(id="s/7", messages=[{"role": "tool", "content": None, "tool_calls": [1]}], group="f"),
    Document(id="s/8", messages=[{"role": "user", "content": [{"type": "text"}]}], group="g"),
]
PAIRS = [Document(id="s/9", prompt="p", chosen="c", rejected="é", group="h")]


def write(folder: Path, split: str, batches: Iterable[pa.RecordBatch], content: set[str]) -> None:
    with CorpusWriter(folder / shard_name(split, 0, 1), content) as writer:
        for batch in batches:
            writer.write(batch)


def tell(folder: Path, **documents: int) -> None:
    (folder / "funnel.json").write_text(json.dumps({"documents": documents}))


def test_batches_lose_nothing() -> None:
    for given in (PLAIN, CHATS, PAIRS, PLAIN + CHATS + PAIRS, []):
        assert from_batch(to_batch(given, "s")) == given


def test_a_document_without_group_is_a_group() -> None:
    assert from_batch(to_batch([Document(id="s/x", text="t")], "s"))[0].group == "s/x"


def test_sizes_are_bytes_and_characters() -> None:
    batch = to_batch(PLAIN + CHATS + PAIRS, "s")
    expected = [document.length() for document in PLAIN + CHATS[:4]]
    assert corpus.sizes(batch).tolist() == [*expected, 0, 4]
    assert corpus.sizes(batch.slice(3)).tolist() == [*expected[3:], 0, 4]
    assert corpus.sizes(batch, characters=True).tolist() == [9, 0, 2, 4, 0, 5, 0, 0, 3]


def test_written_documents_are_read(tmp_path: Path) -> None:
    write(tmp_path, "train", [to_batch(PLAIN, "s")], {"text"})
    write(tmp_path, "validation", [to_batch([Document(id="s/v", text="held", group="v")], "s")], {"text"})
    tell(tmp_path, train=3, validation=1)
    assert list(corpus.documents(tmp_path)) == PLAIN
    assert list(corpus.texts(tmp_path)) == ["Ein Satz.", "", "第三"]
    assert corpus.splits(tmp_path) == ("train", "validation")
    assert (corpus.count(tmp_path), corpus.count(tmp_path, "validation")) == (3, 1)
    assert [d.text for d in corpus.documents(tmp_path, columns=["group"])] == [None, None, None]
    assert list(corpus.verify(tmp_path)) == []


def test_messages_keep_what_they_have_and_no_empty_column(tmp_path: Path) -> None:
    everything = PLAIN + CHATS + PAIRS
    write(tmp_path, "train", [to_batch(everything, "s").slice(2)], {*corpus.CONTENT, corpus.EXTRA})
    assert list(corpus.documents(tmp_path)) == everything[2:]
    assert list(corpus.texts(tmp_path)) == ["第三", "hé", "yo", "plain", "p", "c", "é"]

    simple = [*CHATS[:2], PLAIN[0], CHATS[0]]
    (tmp_path / "simple").mkdir()
    write(tmp_path / "simple", "train", [to_batch([PLAIN[0], *simple], "s").slice(1)], {"text", "messages"})
    names = pq.read_schema(tmp_path / "simple" / shard_name("train", 0, 1))
    assert names.names == ["id", "text", "messages", "source", "group", "meta"]
    assert [field.name for field in names.field("messages").type.value_type] == ["role", "content"]
    assert list(corpus.documents(tmp_path / "simple")) == simple


def test_datasets_finds_both_splits(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder, "train", [to_batch(PLAIN, "s")], {"text"})
    write(folder, "validation", [to_batch(PLAIN[:1], "s")], {"text"})
    tell(folder, train=3, validation=1)
    for loaded in (
        datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "1")),
        datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=str(tmp_path / "2")),
    ):
        assert loaded["train"]["text"][:] == [document.text for document in PLAIN]
        assert loaded["validation"].num_rows == 1


def test_bytes_do_not_depend_on_how_rows_are_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "ROW_GROUP_BYTES", 100)
    chance = np.random.default_rng(0)
    rows = [Document(id=f"s/{i}", text="x" * int(chance.integers(0, 60)), group="g") for i in range(200)]
    rows += [Document(id=f"s/m{i}", messages=[{"role": "user", "content": "y" * i}]) for i in range(50)]
    batch = to_batch(rows, "s")
    files = []
    for name, cuts in (("one", [0, 250]), ("many", [0, 1, 70, 71, 199, 230, 250])):
        (tmp_path / name).mkdir()
        pieces = [batch.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
        write(tmp_path / name, "train", pieces, {"text", "messages"})
        files.append(tmp_path / name / shard_name("train", 0, 1))
    assert pq.read_metadata(files[0]).num_row_groups > 50
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield to_batch(PLAIN, "s")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(tmp_path, "train", broken(), {"text"})
    assert list(tmp_path.iterdir()) == []


def test_bad_documents_are_named() -> None:
    with pytest.raises(Fault, match=r"s/1.*not JSON"):
        to_batch([Document(id="s/1", text="", meta={"x": object()})], "s")
    with pytest.raises(Fault, match=r"s/1.*role"):
        to_batch([Document(id="s/1", messages=[{"content": "hi"}])], "s")


def test_a_missing_split_is_the_users_error(tmp_path: Path) -> None:
    write(tmp_path, "train", [to_batch(PLAIN, "s")], {"text"})
    with pytest.raises(UserError, match="it has train"):
        next(corpus.documents(tmp_path, "validation"))
    with pytest.raises(UserError, match="no such folder"):
        next(corpus.texts(tmp_path / "nowhere"))


def test_verify_finds_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, "train", [to_batch([*PLAIN, PLAIN[0]], "s")], {"text"})
    write(tmp_path, "validation", [to_batch([Document(id="s/v", text="held", group="b")], "s")], {"text"})
    tell(tmp_path, train=9, validation=1)
    found = " ".join(str(problem) for problem in corpus.verify(tmp_path))
    assert "1 ids occur more than once" in found
    assert "1 groups are in both splits" in found
    assert "tells of" in found
    (tmp_path / shard_name("train", 0, 1)).rename(tmp_path / shard_name("train", 1, 2))
    assert "1 of 2 shards" in " ".join(str(problem) for problem in corpus.verify(tmp_path))
    (tmp_path / shard_name("train", 1, 2)).write_bytes(b"PAR1 cut short")
    assert "cannot be read" in " ".join(str(problem) for problem in corpus.verify(tmp_path))
