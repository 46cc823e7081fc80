"""Near-duplicates are found as often as theory has it, and one of each cluster stays."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmgraft
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import corpus
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import CorpusFilter, Verdict
from lmgraft.spool import Spool
from lmgraft.stages import _corpus_units
from lmgraft.stages import corpus as corpus_stage
from lmgraft_minhash import shingles
from lmgraft_minhash.clusters import Clusters
from lmgraft_minhash.minhash import Minhash
from lmgraft_minhash.plugin import MinhashConfig, Normalise, Scope, Shingles, lmgraft_filter


def of_texts(texts: Sequence[str]) -> list[Document]:
    return [Document(id=f"s/{number}", text=text) for number, text in enumerate(texts)]


def verdicts(
    folder: Path, documents: Sequence[Document], config: MinhashConfig | None = None, size: int = 50
) -> dict[int, Verdict]:
    part = Minhash(config or MinhashConfig())
    spool = Spool(folder / "spool", part.schema(), memory_mb=16)
    for start in range(0, len(documents), size):
        chunk = documents[start : start + size]
        spool.append(part.sketch(chunk, range(start, start + len(chunk))))
    (folder / "work").mkdir(exist_ok=True)
    found = list(part.resolve(spool.sort(part.order()), folder / "work", 16))
    assert len(dict(found)) == len(found)
    return dict(found)


def dropped(
    folder: Path, documents: Sequence[Document], config: MinhashConfig | None = None, size: int = 50
) -> list[int]:
    found = verdicts(folder, documents, config, size)
    assert {one.reason for one in found.values() if not one.keep} <= {"near_duplicate"}
    return sorted(position for position, one in found.items() if not one.keep)


def prose(chance: random.Random, words: int) -> list[str]:
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(words)]


def test_the_first_of_a_cluster_stays_and_counts_it(tmp_path: Path) -> None:
    chance = random.Random(1)
    a, b = prose(chance, 200), prose(chance, 200)
    texts = [" ".join(words) for words in (b, a, [*a[:-1], "end"], a, prose(chance, 200), [*b, "more"])]
    found = verdicts(tmp_path, of_texts(texts))
    assert {position for position, one in found.items() if not one.keep} == {2, 3, 5}
    assert {position: (one.counts, one.note) for position, one in found.items() if one.keep} == {
        0: ({"clusters": 1}, "the first of 2 near-duplicates"),
        1: ({"clusters": 1}, "the first of 3 near-duplicates"),
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (MinhashConfig(), [1, 2, 3, 4]),
        (MinhashConfig(normalise=Normalise.none), [1]),
        (MinhashConfig(shingles=Shingles.chars, ngram=12), [1, 2, 3, 4]),
    ],
)
def test_what_is_evened_out(tmp_path: Path, config: MinhashConfig, expected: list[int]) -> None:
    texts = [
        "It cost 12 euros in the old cafe and 7 more at the door",
        "It  cost 12 euros in the old cafe\nand 7 more at the door ",
        "IT COST 12 EUROS IN THE OLD CAFE AND 7 MORE AT THE DOOR",
        "It cost 12 euros -- in the old café, and 7 more at the door!",
        "It cost 1,999 euros in the old cafe and 15 more at the door",
        "It cost two dimes in a new cafe and nothing else for us all",
    ]
    assert dropped(tmp_path, of_texts(texts), config) == expected


def test_short_empty_and_unspaced_documents(tmp_path: Path) -> None:
    texts = ["", "", " \n\t ", "...", "... !", "one two", "One two.", "one", "two one", "one two three four five six"]
    texts += [
        "日本語の文章には空白がありません。",
        "日本語の文章には空白がありません",
        "日本語の文章には余白がありません",
    ]
    assert dropped(tmp_path, of_texts(texts)) == [6, 11]


def test_characters_of_unspaced_scripts_are_words(tmp_path: Path) -> None:
    chance = random.Random(2)
    text = "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(800))
    near, far = text[:400] + "日" + text[400:], text[400:] + "".join(reversed(text[:400]))
    assert dropped(tmp_path, of_texts([text, near, far])) == [1]


def test_scopes_keep_groups_apart(tmp_path: Path) -> None:
    text = " ".join(prose(random.Random(3), 50))
    rows = [("a/1", "x"), ("a/2", "y"), ("b/1", "x"), ("b/2", "y"), ("b/3", None), ("b/4", None), ("b/5", ["x"])]
    documents = [Document(id=name, text=text, meta={} if dump is None else {"dump": dump}) for name, dump in rows]
    assert dropped(tmp_path, documents) == [1, 2, 3, 4, 5, 6]
    assert dropped(tmp_path, documents, MinhashConfig(scope=Scope.source)) == [1, 3, 4, 5, 6]
    assert dropped(tmp_path, documents, MinhashConfig(scope=Scope.key, key="dump")) == [2, 3, 5]


def test_chats_and_pairs_are_compared_by_their_contents(tmp_path: Path) -> None:
    words = " ".join(prose(random.Random(4), 60))
    documents = [
        Document(id="c", messages=[{"role": "user", "content": words}, {"role": "assistant", "content": None}]),
        Document(id="d", messages=[{"role": "user", "content": words + " ok"}]),
        Document(id="p", prompt=words, chosen="yes", rejected=""),
        Document(id="e", messages=[]),
        Document(id="f", messages=[]),
    ]
    assert dropped(tmp_path, documents) == [1, 2]


@pytest.mark.parametrize("similarity", [0.6, 0.75, 0.9])
def test_recall_is_that_of_the_formula(tmp_path: Path, similarity: float) -> None:
    chance, pairs, size = random.Random(5), 600, 160
    common = round(2 * size * similarity / (1 + similarity))
    texts = []
    for _ in range(pairs):
        base, other = prose(chance, size + 4), prose(chance, size)
        # Shingles of the first common + 4 words are shared and no others, out of size in each.
        texts += [" ".join(base), " ".join([*base[: common + 4], *other[common:]])]
    found = len(dropped(tmp_path, of_texts(texts))) / pairs
    exact = common / (2 * size - common)
    theory = 1 - (1 - exact**8) ** 14
    assert abs(found - theory) < 4 * (theory * (1 - theory) / pairs) ** 0.5 + 0.002


def test_unrelated_documents_stay(tmp_path: Path) -> None:
    chance = random.Random(6)
    vocabulary = prose(chance, 3000)
    texts = [" ".join(chance.choices(vocabulary, k=150)) for _ in range(2000)]
    assert dropped(tmp_path, of_texts(texts)) == []


def test_seeds_differ_and_repeat() -> None:
    documents = of_texts([" ".join(prose(random.Random(7), 50))])
    rows = [Minhash(MinhashConfig(seed=seed)).sketch(documents, [4]).to_pylist() for seed in (0, 0, 1, -1)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 14
    assert {row["position"] for row in rows[0]} == {4}
    keys = [row["key"] for some in rows[1:] for row in some]
    assert len(set(keys)) == 42


def test_a_giant_document_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = prose(random.Random(8), 30_000)
    giant, near, other = " ".join(words), " ".join([*words[:-9], "x"]), " ".join(words[::-1])
    assert len(giant) > 3 * shingles.PIECE
    in_pieces = Minhash(MinhashConfig()).sketch(of_texts(["small one", giant]), [0, 1])
    monkeypatch.setattr("lmgraft_minhash.minhash.PIECE", 1 << 22)
    assert Minhash(MinhashConfig()).sketch(of_texts(["small one", giant]), [0, 1]).equals(in_pieces)
    monkeypatch.undo()
    blob = ["A" * 300_000, "A" * 300_000, "\n" * 300_000, "7" * 300_000, " " * 300_000 + "x", "x"]
    assert dropped(tmp_path, of_texts([giant, near, other, *blob])) == [1, 4, 8]


def test_as_many_equal_documents_as_you_like(tmp_path: Path) -> None:
    part = Minhash(MinhashConfig())
    one = part.sketch(of_texts(["the same few words again and again"]), [0]).column("key").to_numpy()
    count = 200_000
    spool = Spool(tmp_path / "spool", part.schema(), memory_mb=16)
    import pyarrow as pa

    for start in range(0, count, 10_000):
        positions = np.repeat(np.arange(start, start + 10_000), len(one))
        rows = [pa.array(np.tile(one, 10_000)), pa.array(positions)]
        spool.append(pa.record_batch(rows, schema=part.schema()))
    found = list(part.resolve(spool.sort(part.order()), tmp_path, 16))
    assert [position for position, verdict in found if not verdict.keep] == list(range(1, count))
    assert found[-1][1].note == "the first of 200,000 near-duplicates"


@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12), max_size=6))
@settings(max_examples=150, deadline=None)
def test_clusters_are_the_components(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int]]]
) -> None:
    clusters = Clusters(tmp_path_factory.mktemp("clusters"))
    sets = {number: {number} for number in range(41)}
    for batch in batches:
        pairs = np.array(batch, np.int64).reshape(-1, 2)
        clusters.join(pairs[:, 0], pairs[:, 1])
        for a, b in batch:
            union = sets[a] | sets[b]
            for member in union:
                sets[member] = union
    found = {
        p: r for positions, roots in clusters.all() for p, r in zip(positions.tolist(), roots.tolist(), strict=True)
    }
    assert found == {number: min(own) for number, own in sets.items() if min(own) != number}
    sizes = {r: s for roots, some in clusters.sizes() for r, s in zip(roots.tolist(), some.tolist(), strict=True)}
    assert sizes == {min(own): len(own) for own in sets.values() if len(own) > 1}


def test_a_long_chain_is_one_cluster(tmp_path: Path) -> None:
    clusters, count = Clusters(tmp_path), 600_000  # more than the room it starts with
    order = np.random.default_rng(0).permutation(count - 1)
    for part in np.array_split(order, 9):
        clusters.join(part, part + 1)
    assert all((roots == 0).all() for _, roots in clusters.all())
    assert next(iter(clusters.sizes()))[1].tolist() == [count]


def of_stage(folder: Path, texts: Sequence[str], workers: int) -> tuple[list[str], dict[str, Any]]:
    """(ids that stay, the funnel's row) of a corpus stage."""
    rows = folder / "rows"
    rows.mkdir(parents=True)
    for number in range(4):
        lines = [json.dumps({"text": text}) + "\n" for text in texts[number::4]]
        (rows / f"{number}.jsonl").write_text("".join(lines))
    recipe = {
        "defaults": [
            "base", {"stage@corpus": "corpus"}, {"data_source@corpus.sources": ["files"]},
            {"filter@corpus.filters": ["minhash"]}, "_self_",
        ],
        "stages": ["corpus"],
        "corpus": {"sources": {"files": {"path": str(rows)}}},
    }  # fmt: skip
    (folder / "dedup.yaml").write_text(json.dumps(recipe))
    places = [f"run.dir={folder}/run", f"store.dir={folder}/store"]
    run = lmgraft.run(str(folder / "dedup.yaml"), [f"corpus.workers={workers}", *places])
    path = run.artifacts["corpus"]
    return [document.id for document in corpus.documents(path)], corpus.funnel(path)["filters"][0]


def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 20_000)
    chance = random.Random(9)
    texts = [" ".join(prose(chance, 40)) for _ in range(300)]
    texts += [texts[chance.randrange(300)].replace("a", "A") + "." for _ in range(100)]
    found = [of_stage(tmp_path / str(workers), texts, workers) for workers in (1, 2)]
    assert found[0] == found[1]
    ids, row = found[0]
    assert row["dropped"] == {"near_duplicate": 100}
    assert len(ids) == 300
    assert row["counts"]["clusters"] == len(_components(texts))
    assert len(row["noted"]) == 5


def _components(texts: Sequence[str]) -> list[list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        found[text.lower().rstrip(".")].append(number)
    return [own for own in found.values() if len(own) > 1]


@pytest.mark.parametrize("wrong", [{"ngram": 0}, {"bands": 0}, {"rows": 300}, {"scope": Scope.key}, {"key": "dump"}])
def test_wrong_settings_are_told(wrong: dict[str, Any]) -> None:
    problems: Iterator[Any] = MinhashConfig(**wrong).check()
    assert len(list(problems)) == 1


def test_the_hook_offers_a_corpus_filter() -> None:
    (component,) = lmgraft_filter()
    assert component.name == "minhash"
    assert isinstance(Minhash(MinhashConfig()), CorpusFilter)
    assert list(MinhashConfig().check()) == []
