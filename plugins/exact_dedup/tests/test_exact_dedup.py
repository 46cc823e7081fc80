"""The first of equal documents stays, wherever the spool's batches end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import CorpusFilter, Verdict
from lmgraft_exact_dedup.exact_dedup import ExactDedup
from lmgraft_exact_dedup.plugin import ExactDedupConfig, Normalise, lmgraft_filter


@dataclass
class Spool:
    """What core hands to ``resolve``: the rows in order, in batches of any size."""

    table: pa.Table
    size: int

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([pa.array([], field.type) for field in self.table.schema], schema=self.table.schema)
        yield from self.table.to_batches(max_chunksize=self.size)


def dropped(documents: Sequence[Document], normalise: Normalise, sketched: int = 3, size: int = 2) -> list[int]:
    """Sketches in batches of ``sketched``, sorts as declared, resolves; the dropped positions."""
    part = ExactDedup(ExactDedupConfig(normalise=normalise))
    starts = range(0, len(documents), sketched)
    batches = [
        part.sketch(chunk := documents[start : start + sketched], range(start, start + len(chunk))) for start in starts
    ]
    table = pa.Table.from_batches(batches, schema=part.schema())
    backwards = pa.array(reversed(range(table.num_rows)), pa.int64())  # sorting must not lean on the order of arrival
    table = table.take(backwards)
    table = table.sort_by([(name, "ascending") for name in part.order()]).combine_chunks()
    verdicts = list(part.resolve(Spool(table, size), Path("nowhere"), 16))
    assert all(verdict == Verdict.drop("exact_duplicate") for _, verdict in verdicts)
    return sorted(position for position, _ in verdicts)


def of_texts(texts: Sequence[str]) -> list[Document]:
    return [Document(id=str(number), text=text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [(Normalise.none, [4]), (Normalise.whitespace, [2, 4]), (Normalise.whitespace_case, [2, 3, 4])],
)
def test_what_counts_as_equal(normalise: Normalise, expected: list[int]) -> None:
    texts = ["a b", "ab", " a\n\tb ", "A b", "ab", "", "x"]
    assert dropped(of_texts(texts), normalise) == expected


@given(
    st.lists(st.sampled_from(["", "a", "b", "a b", "a  b", "\ud800", "é"]), max_size=30),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_all_but_the_first_are_dropped_whatever_the_batches(texts: list[str], sketched: int, size: int) -> None:
    seen: set[str] = set()
    expected = []
    for position, text in enumerate(texts):
        key = " ".join(text.split())
        if key in seen:
            expected.append(position)
        seen.add(key)
    assert dropped(of_texts(texts), Normalise.whitespace, sketched, size) == expected


def test_chats_and_pairs_are_compared_whole() -> None:
    def chat(*contents: str, role: str = "user") -> Document:
        return Document(id="c", messages=[{"role": role, "content": content} for content in contents])

    def pair(prompt: str, chosen: str, rejected: str) -> Document:
        return Document(id="p", prompt=prompt, chosen=chosen, rejected=rejected)

    documents = [
        chat("a", "b"),
        chat("a b"),
        chat("a ", "b"),
        chat("a", "b", role="assistant"),
        pair("x", "y", "z"),
        pair("x", "z", "y"),
        pair("x", " y", "z"),
        pair("x", "y", "w"),
        pair("w", "y", "z"),
    ]
    assert dropped(documents, Normalise.whitespace) == [2, 6]
    assert dropped(documents, Normalise.none) == []


def test_both_halves_of_a_digest_count() -> None:
    part = ExactDedup(ExactDedupConfig())
    columns = {"high": [1, 1, 1, 2], "low": [1, 2, 2, 2], "position": [5, 0, 9, 3]}
    spool = Spool(pa.table(columns, schema=part.schema()), size=4)
    assert list(part.resolve(spool, Path("nowhere"), 16)) == [(9, Verdict.drop("exact_duplicate"))]


def test_an_empty_batch_and_an_empty_corpus() -> None:
    part = ExactDedup(ExactDedupConfig())
    assert part.sketch([], []).num_rows == 0
    assert dropped([], Normalise.none) == []


def test_the_digest_is_pinned() -> None:
    # BLAKE2b-128 of "a b", personalised: another digest would silently make another corpus of half-done work.
    row = ExactDedup(ExactDedupConfig()).sketch(of_texts([" a  b"]), [7]).to_pylist()[0]
    assert row["position"] == 7
    expected = blake2b(b"a b", digest_size=16, person=b"text").digest()
    assert (row["high"] << 64 | row["low"]).to_bytes(16, "big") == expected


def test_the_hook_offers_a_corpus_filter() -> None:
    (component,) = lmgraft_filter()
    assert component.name == "exact_dedup"
    assert isinstance(ExactDedup(ExactDedupConfig()), CorpusFilter)
