"""What is selected: few, good, unlike one another; the same for any order, batches and workers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmgraft
import numpy as np
import pyarrow as pa
import pytest
from lmgraft.artifacts import corpus
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.stages import corpus as corpus_stage
from lmgraft_lima.lima import Lima
from lmgraft_lima.plugin import LimaConfig
from lmgraft_lima.topics import WIDTH, grouped, shares, words

LOOSE = {"min_chars": 1, "min_score": None}


def chat(question: str, answer: str, name: str = "a/f:0", **meta: Any) -> Document:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Document(id=name, messages=messages, meta=meta)


@dataclass
class Spool:
    table: pa.Table
    size: int

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from self.table.to_batches(max_chunksize=self.size)


def judged(documents: Sequence[Document], sketched: int = 100, size: int = 64, **settings: Any) -> list[str]:
    """Each document's reason, "" where it is kept."""
    part = Lima(LimaConfig(**settings))
    batches = [
        part.sketch(documents[at : at + sketched], range(at, min(at + sketched, len(documents))))
        for at in range(0, len(documents), sketched)
    ]
    table = pa.Table.from_batches(batches, schema=part.schema())
    table = table.sort_by([(name, "ascending") for name in part.order()]).combine_chunks()
    reasons = [""] * len(documents)
    for position, verdict in part.resolve(Spool(table, size), Path("nowhere"), 64):
        assert not verdict.keep
        assert not reasons[position], "one verdict a document"
        reasons[position] = verdict.reason
    return reasons


def kept(documents: Sequence[Document], **settings: Any) -> Counter[str]:
    reasons = judged(documents, **settings)
    return Counter(repr(d.messages) for d, reason in zip(documents, reasons, strict=True) if not reason)


def test_one_chat_a_prompt_and_the_best_of_them() -> None:
    rows = [chat("Why  is it?", "low", score=11), chat("why is IT?", "high", score=40), chat("How?", "other", score=12)]
    assert judged(rows, min_chars=1) == ["duplicate_prompt", "", ""]


def test_no_source_gives_more_than_its_quota() -> None:
    rows = [chat(f"Question {i} on {i * 7}?", f"Answer {i}.", f"a/big.jsonl:{i}", score=i) for i in range(10)]
    rows += [chat(f"Riddle {i}?", f"Solved {i}.", f"a/small.jsonl:{i}") for i in range(2)]
    reasons = judged(rows, min_chars=1, min_score=None, quota=3)
    assert [i for i, reason in enumerate(reasons) if not reason] == [7, 8, 9, 10, 11]
    assert set(reasons) == {"", "over_quota"}


def test_a_quota_by_a_key_of_the_rows() -> None:
    rows = [chat(f"Question {i}?", f"Answer {i}.", site="x" if i % 3 else "y") for i in range(9)]
    reasons = judged(rows, quota=2, source="site", **LOOSE)
    left = Counter(row.meta["site"] for row, reason in zip(rows, reasons, strict=True) if not reason)
    assert left == {"x": 2, "y": 2}


def test_ranges_of_a_file_are_one_source() -> None:
    rows = [chat(f"Question {i} on {i * 7}?", f"Answer {i}.", f"a/big.jsonl@{i // 5}:{i}") for i in range(10)]
    reasons = judged(rows, quota=3, **LOOSE)
    assert Counter(reasons) == {"": 3, "over_quota": 7}


def test_sources_with_quotas_of_their_own() -> None:
    names = ["files/a.jsonl", "files/b.jsonl", "drills/x"]
    rows = [chat(f"Question {i} on {i * 7}?", f"Answer {i}.", f"{names[i % 3]}:{i}") for i in range(30)]

    def left(**settings: Any) -> Counter[str]:
        reasons = judged(rows, **settings, **LOOSE)
        return Counter(row.id.partition(":")[0] for row, reason in zip(rows, reasons, strict=True) if not reason)

    assert left(quotas={"files/b.jsonl": 2, "drills": 0}) == {"files/a.jsonl": 10, "files/b.jsonl": 2}
    assert left(quotas={"drills": 4}, quota=7) == {"files/a.jsonl": 7, "files/b.jsonl": 7, "drills/x": 4}
    assert left(quotas={"files": 5})["drills/x"] == 10
    assert sum(left(quotas={"files": 5}).values()) == 15


def test_a_quota_for_a_source_that_is_not_there() -> None:
    with pytest.raises(UserError) as caught:
        judged([chat("Why?", "So.", "files/a.jsonl:0")], quotas={"file/a.jsonl": 3}, **LOOSE)
    assert "lima.quotas names 'file/a.jsonl'" in str(caught.value)
    assert "they come from files/a.jsonl" in str(caught.value)


def test_topics_share_by_their_cube_roots_and_give_their_best() -> None:
    sizes = {"art": 8, "law": 64, "war": 512}
    rows = [
        chat(f"{topic} {i}?", f"Answer {i}.", topic=topic, score=i)
        for topic, size in sizes.items()
        for i in range(size)
    ]
    random.Random(0).shuffle(rows)
    reasons = judged(rows, examples=21, min_chars=1, min_score=0, topic="topic")
    chosen = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    counts = Counter(row.meta["topic"] for row in chosen)
    assert counts == {"art": 3, "law": 6, "war": 12}  # 2 : 4 : 8 of 21
    for topic, count in counts.items():
        scores = sorted(row.meta["score"] for row in chosen if row.meta["topic"] == topic)
        assert scores == list(range(sizes[topic] - count, sizes[topic]))


def test_a_rare_kind_of_prompt_is_found_by_its_words() -> None:
    rows = [chat(f"Add the numbers {i} and {i + 3}.", f"The sum is {2 * i + 3}.") for i in range(400)]
    rows += [chat(f"Write a poem on the sea of {name}.", f"Waves of {name}.") for name in ("Azov", "Marmara", "Aral")]
    reasons = judged(rows, examples=20, topics=4, **LOOSE)
    assert reasons.count("") == 20
    assert sum(not reason for reason in reasons[400:]) >= 2  # by chance it would be one in seven times


def made(count: int = 600) -> list[Document]:
    """Chats of all kinds, some twice, some of one prompt."""
    chance = random.Random(1)
    nouns = ["river", "king", "tree", "song", "stone", "cloud", "第三", "水果", "Ärger"]
    rows = []
    for number in range(count):
        question = f"{chance.choice(['Why', 'How', 'When'])} {chance.choice(nouns)} {chance.randrange(90)}?"
        answer = chance.choice(["Because {}.", "I think {}.", "As mentioned above, {}.", "<b>{}</b>", "{}"])
        answer = answer.format(" ".join(chance.choices(nouns, k=chance.randrange(1, 9))))
        rows.append(chat(question, answer, f"s/f{number % 5}:{number}", score=chance.choice([3, 20, 20, 30])))
    return rows


def test_order_and_batches_change_nothing() -> None:
    rows = made()
    settings: dict[str, Any] = {"examples": 50, "min_chars": 5, "quota": 40}
    expected = kept(rows, **settings)
    assert expected.total() == 50
    for seed in range(3):
        moved = rows.copy()
        random.Random(seed).shuffle(moved)
        assert kept(moved, sketched=7, size=1 + 100 * seed, **settings) == expected


def test_the_same_rows_in_other_files_give_the_same_selection() -> None:
    rows = made()
    whole = [replace(row, id=f"other/all.jsonl:{number}") for number, row in enumerate(rows)]
    assert kept(whole, examples=50, min_chars=5) == kept(rows, examples=50, min_chars=5)


def test_groups_are_the_same_for_any_number_of_threads() -> None:
    # Rounding in the products of matrices differs between numbers of threads: a few of thousands of rows would change
    # their groups, and with them the selection.
    code = (
        "import hashlib, random; import numpy as np; from lmgraft_lima.topics import grouped, words\n"
        "chance = random.Random(3)\n"
        "rows = [words(' '.join(f'w{chance.randrange(900)}' for _ in range(12))) for _ in range(3000)]\n"
        "print(hashlib.sha256(repr(grouped(np.stack(rows), 32)).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


def test_products_of_vectors_are_exact() -> None:
    rows = np.stack([words(f"alpha beta gamma {i} {i * i} and more of it {'x' * i}") for i in range(200)])
    exact = rows.astype(np.int64) @ rows.astype(np.int64).T
    single = rows.astype(np.float32) @ rows.astype(np.float32).T
    assert (single.astype(np.int64) == exact).all()
    # What may be summed up on the way, in any order, is exact as well.
    sizes = np.abs(rows.astype(np.int64))
    assert (sizes @ sizes.T).max() < 1 << 24


def test_another_seed_selects_others() -> None:
    settings: dict[str, Any] = {"examples": 50, "min_chars": 5}
    first, second = (kept(made(), seed=seed, **settings) for seed in (0, 1))
    assert first != second
    assert first.total() == second.total() == 50


def test_memory_bounds_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraft_lima.lima.CANDIDATE_BYTES", 1 << 18)  # 64 MiB / 4 then hold 64 of them
    rows = [chat(f"Question {i} of {i * i}?", f"Answer {i}.") for i in range(300)]
    reasons = judged(rows, examples=30, **LOOSE)
    assert reasons.count("") == 30
    backwards = judged(rows[::-1], examples=30, **LOOSE)
    assert [not reason for reason in backwards[::-1]] == [not reason for reason in reasons]


def test_few_rows_are_all_kept() -> None:
    assert judged([chat("A?", "b"), chat("C?", "d")], **LOOSE) == ["", ""]
    assert judged([], **LOOSE) == []
    assert judged([Document("a/b:0", text="no chat")], **LOOSE) == ["no_answer"]


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [([8, 64], 3, [1, 2]), ([1, 1000], 11, [1, 10]), ([5, 5], 20, [5, 5]), ([1, 1, 1], 2, [1, 1, 0]), ([4], 0, [0])],
)
def test_shares(sizes: list[int], total: int, expected: list[int]) -> None:
    assert shares(sizes, total, 3.0) == expected


def test_groups_are_of_like_rows() -> None:
    rows = np.stack([words(f"{word} {i}") for word in ("add numbers please", "write long poems") for i in range(20)])
    assert rows.shape == (40, WIDTH)
    found = grouped(rows, 2)
    assert found in ([0] * 20 + [1] * 20, [1] * 20 + [0] * 20)
    assert not words("").any()


@pytest.mark.parametrize("workers", [1, 2])
def test_through_the_corpus_stage(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)  # processes for few rows, too
    monkeypatch.chdir(tmp_path)
    _written(tmp_path, made())
    assert _texts(_ran(workers)) == kept(_reread(made()), examples=50, min_chars=5, quota=40)


def _written(folder: Path, rows: list[Document]) -> None:
    (folder / "rows").mkdir()
    for number in range(5):
        mine = [{"messages": row.messages, **row.meta} for row in rows if f"/f{number}:" in row.id]
        (folder / "rows" / f"f{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    (folder / "chats.yaml").write_text(
        "defaults:\n  - base\n  - stage@chats: corpus\n  - data_source@chats.sources: [files]\n"
        "  - filter@chats.filters: [lima]\n  - _self_\nstages: [chats]\n"
        "chats:\n  sources: {files: {path: rows, rows: messages}}\n"
        "  filters: {lima: {examples: 50, min_chars: 5, quota: 40}}\n"
    )


def _reread(rows: list[Document]) -> list[Document]:
    """With the ids that core gives: a file is a source."""
    return [replace(row, id=f"files/{row.id.partition('/')[2].replace(':', '.jsonl:')}") for row in rows]


def _ran(workers: int) -> lmgraft.Run:
    return lmgraft.run("./chats.yaml", [f"chats.workers={workers}", "run.dir=run", "store.dir=store"])


def _texts(run: lmgraft.Run) -> Counter[str]:
    rows = corpus.documents(run.artifacts["chats"], "train")
    return Counter(repr([{"role": m["role"], "content": m["content"]} for m in row.messages or ()]) for row in rows)
