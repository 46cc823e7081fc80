"""Near-duplicates: ``minhash`` in the corpus stage, beside datatrove's MinhashDedup (four stages), 2 workers each.

Documents are made: words of a vocabulary of 20,000, about 1 kB in each. Of planted pairs the Jaccard similarity of the
word 5-grams is exact, and it is counted again by plain sets. Both sides are whole commands, start included, on the same
JSON Lines with the same parameters: 14 bands of 8 rows over word 5-grams, 64-bit hashes. Beside the time stands what
each of them drops. Memory is that of all processes of the stage together, looked at every 50 ms.

Files lie in the system's temporary folder (set TMPDIR for another disk) and are removed. ``LMGRAFT_BENCH_DOCUMENTS``
sets the documents of the timed runs (20,000), ``LMGRAFT_BENCH_MILLION`` those of the run for memory (1,000,000; none
with 0).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Times, alternate, machine, once, peer_python

LEVELS = {0.6: (3, 5, 31), 0.7: (7, 10, 16), 0.75: (3, 4, 39), 0.8: (4, 5, 31), 0.9: (9, 10, 16)}
"""Similarity -> (a, b, times): a * times shingles in common of b * times in the union."""
PAIRS, SINGLES = 4000, 20_000
NGRAM, BANDS, ROWS = 5, 14, 8
PEER = Path(__file__).parent / "peers" / "minhash.py"
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(runs: int) -> tuple[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="bench-minhash-") as name:
        folder = Path(name)
        recall, false = _recall(folder / "recall")
        gold = _gold(folder / "gold")
        times, quality = _beside(folder / "speed", runs)
        memory = _million(folder / "million")
    documents = quality["documents"]
    peer, ours = (documents / times[side].median for side in ("datatrove", "lmgraft"))
    result = {
        "name": "minhash",
        "recall": {str(level): row for level, row in recall.items()},
        "false_drops_of_unrelated": false,
        "gold": gold,
        "documents_per_second": {"ours": ours, "datatrove": peer},
        "ratio": ours / peer,
        "quality": quality,
        "memory": memory,
    }
    return _table(result, times, runs), result


# --- documents ------------------------------------------------------------------------------------------------------


def _vocabulary(chance: random.Random) -> list[str]:
    found: set[str] = set()
    while len(found) < 20_000:
        found.add("".join(chance.choices("etaoinshrdlucmfwypgbvk", k=chance.randint(3, 8))))
    return sorted(found)


def _pair(chance: random.Random, words: Sequence[str], level: float) -> tuple[str, str]:
    """Two texts of that similarity: a run of shingles in common, somewhere in the middle of words of their own."""
    a, b, times = LEVELS[level]
    common, union = a * times, b * times
    shared = chance.choices(words, k=common + NGRAM - 1)
    own = union - common
    sides = []
    for more in (own // 2, own - own // 2):
        first = chance.randint(0, more)
        sides.append(" ".join([*chance.choices(words, k=first), *shared, *chance.choices(words, k=more - first)]))
    if _similarity(*sides) * union != common:
        return _pair(chance, words, level)  # a shingle came twice by chance
    return sides[0], sides[1]


def _similarity(left: str, right: str) -> float:
    a, b = (_shingles(text) for text in (left, right))
    return len(a & b) / len(a | b)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(*(words[at:] for at in range(NGRAM)), strict=False))


def _write(folder: Path, rows: Iterable[tuple[str, str]], files: int = 2) -> None:
    """(id, text) as JSON Lines, in turn into ``files`` files."""
    folder.mkdir(parents=True)
    out = [(folder / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(files)]
    for number, (name, text) in enumerate(rows):
        out[number % files].write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    for file in out:
        file.close()


# --- our side -------------------------------------------------------------------------------------------------------


def _command(folder: Path, source: Path) -> list[str | Path]:
    """The corpus stage with ``minhash`` alone, 2 workers."""
    sources = {"files": {"path": str(source)}}
    recipe = {
        "defaults": [
            "base", {"stage@corpus": "corpus"}, {"data_source@corpus.sources": ["files"]},
            {"filter@corpus.filters": ["minhash"]}, "_self_",
        ],
        "stages": ["corpus"],
        "corpus": {"sources": sources, "filters": {"minhash": {"ngram": NGRAM, "bands": BANDS, "rows": ROWS}}},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dedup.yaml").write_text(json.dumps(recipe))
    ours = Path(sys.executable).parent / "lmgraft"
    return [
        ours,
        "run",
        folder / "dedup.yaml",
        "corpus.workers=2",
        f"run.dir={folder}/run",
        f"store.dir={folder}/store",
    ]


def _kept(folder: Path) -> set[str]:
    """The ids that are left, as the rows had them."""
    from lmgraft import open_run
    from lmgraft.artifacts.corpus import documents

    found = set()
    for document in documents(open_run(folder / "run").artifacts["corpus"], columns=["id", "meta"]):
        found.add(str(document.meta.get("id", document.id.partition("/")[2])))
    return found


def _dropped(folder: Path, rows: Sequence[tuple[str, str]]) -> set[str]:
    _write(folder / "in", rows)
    once(_command(folder, folder / "in"), ENV)
    kept = _kept(folder)
    assert kept <= {name for name, _ in rows}
    return {name for name, _ in rows} - kept


# --- what is found --------------------------------------------------------------------------------------------------


def _recall(folder: Path) -> tuple[dict[float, dict[str, float]], int]:
    """(level -> pairs, found, theory; drops among the unrelated). Also: no document of a pair is dropped for another
    reason than its twin, for one of both always stays."""
    chance = random.Random(1)
    words = _vocabulary(chance)
    rows = [
        (f"{level}:{number}:{side}", text)
        for level in LEVELS
        for number in range(PAIRS)
        for side, text in enumerate(_pair(chance, words, level))
    ]
    rows += [(f"single:{number}", " ".join(chance.choices(words, k=150))) for number in range(SINGLES)]
    chance.shuffle(rows)
    dropped = _dropped(folder, rows)
    found: dict[float, dict[str, float]] = {}
    for level in LEVELS:
        both = [{f"{level}:{number}:{side}" for side in (0, 1)} & dropped for number in range(PAIRS)]
        assert all(len(own) < 2 for own in both), "both documents of a pair were dropped"
        theory = 1 - (1 - level**ROWS) ** BANDS
        found[level] = {"pairs": PAIRS, "found": sum(map(len, both)) / PAIRS, "theory": theory}
    return found, sum(name.startswith("single") for name in dropped)


def _gold(folder: Path) -> dict[str, str]:
    """Pairs that others marked as duplicates: how many are found, and how many drops are none of theirs."""
    data = os.environ.get("LMGRAFT_TEST_DATA")
    if not data:
        return {}
    root, found = Path(data), {}
    for name in ("100", "1000"):
        with gzip.open(root / f"misc/neardup_articles_{name}.train.gz", "rt", encoding="utf-8") as lines:
            rows = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]
        truth = [
            line.split() for line in (root / f"misc/neardup_articles_{name}.truth").read_text().splitlines() if line
        ]
        found[f"neardup_articles_{name}"] = _told(_dropped(folder / name, rows), truth)
    with gzip.open(root / "corpus/gutenberg_books.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [(str(number), json.loads(line)["text"]) for number, line in enumerate(lines)]
    found["gutenberg, two editions"] = _told(_dropped(folder / "books", rows), [["5", "6"]])
    demo = (root / "misc/dedup_demo.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [(str(number), json.loads(line)["text"]) for number, line in enumerate(filter(None, demo))]
    alike = _alike([text for _, text in rows], 0.8)
    found["dedup_demo (pairs of similarity 0.8 or more)"] = _told(_dropped(folder / "demo", rows), alike)
    return found


def _alike(texts: Sequence[str], least: float) -> list[list[str]]:
    """Pairs that are alike by plain sets of 5-grams of lower-case words."""
    even = [" ".join(re.findall(r"[^\W\d_]|\w+" if not text.isascii() else r"\w+", text.lower())) for text in texts]
    pairs = [(a, b) for b in range(len(even)) for a in range(b) if _shingles(even[a]) and _shingles(even[b])]
    return [[str(a), str(b)] for a, b in pairs if _similarity(even[a], even[b]) >= least]


def _told(dropped: set[str], truth: Sequence[Sequence[str]]) -> str:
    found = sum(len(dropped & set(pair)) == 1 for pair in truth)
    other = dropped - {name for pair in truth for name in pair}
    return f"{found} of {len(truth)} pairs, {len(other)} other drops"


# --- beside datatrove -----------------------------------------------------------------------------------------------


def _many(count: int) -> Iterator[tuple[str, str]]:
    """Documents of about 1 kB, every tenth a copy of an earlier one with a few of its words replaced; its id ends in
    that one's."""
    chance = random.Random(2)
    words = _vocabulary(chance)
    recent: list[tuple[str, list[str]]] = []
    for number in range(count):
        if number % 10 == 9:
            source, found = chance.choice(recent)
            text = list(found)
            for _ in range(chance.randint(0, 8)):
                text[chance.randrange(len(text))] = chance.choice(words)
            yield f"copy {number} of {source}", " ".join(text)
            continue
        text = chance.choices(words, k=chance.randint(100, 200))
        recent = [*recent[-99:], (f"own {number}", text)]
        yield f"own {number}", " ".join(text)


def _quality(rows: Sequence[tuple[str, str]], dropped: dict[str, set[str]]) -> dict[str, Any]:
    """How many of the planted pairs each side finds, beside what the formula expects of their exact similarities, and
    how many documents it drops that are in no pair."""
    texts = dict(rows)
    pairs = [(name, name.partition(" of ")[2]) for name in texts if " of " in name]
    expected = sum(1 - (1 - _similarity(texts[a], texts[b]) ** ROWS) ** BANDS for a, b in pairs)
    found = {side: {pair for pair in pairs if own & set(pair)} for side, own in dropped.items()}
    known = {name for pair in pairs for name in pair}
    return {
        "documents": len(rows),
        "pairs": len(pairs),
        "expected": expected,
        "found": {side: len(own) for side, own in found.items()},
        "found_by_both": len(set.intersection(*found.values())),
        "other_drops": {side: len(own - known) for side, own in dropped.items()},
    }


def _beside(folder: Path, runs: int) -> tuple[dict[str, Times], dict[str, Any]]:
    count = int(os.environ.get("LMGRAFT_BENCH_DOCUMENTS", 20_000))
    _write(folder / "in", _many(count))
    ours, theirs = folder / "ours", folder / "theirs"
    commands: dict[str, list[str | Path]] = {
        "lmgraft": _command(ours, folder / "in"),
        "datatrove": [peer_python("minhash"), PEER, folder / "in", theirs],
    }

    def clear() -> None:
        for left in (ours / "run", ours / "store", theirs):
            shutil.rmtree(left, ignore_errors=True)

    clear()
    for command in commands.values():
        once(command, ENV)
    rows = list(_many(count))
    names = {name for name, _ in rows}
    lines = (line for file in (theirs / "kept").iterdir() for line in file.open(encoding="utf-8"))
    dropped = {"lmgraft": names - _kept(ours), "datatrove": names - {json.loads(line)["id"] for line in lines}}
    quality = _quality(rows, dropped)
    return alternate(commands, runs, ENV, clear), quality


# --- memory ---------------------------------------------------------------------------------------------------------


def _million(folder: Path) -> dict[str, float]:
    count = int(os.environ.get("LMGRAFT_BENCH_MILLION", 1_000_000))
    if not count:
        return {}
    _write(folder / "in", _many(count), files=8)
    size = sum(file.stat().st_size for file in (folder / "in").iterdir())
    started = time.perf_counter()
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(list(map(str, _command(folder, folder / "in"))), stdout=said, stderr=said, env=ENV)
        with _Tree(process.pid) as tree:
            code = process.wait()
    if code:
        raise SystemExit((folder / "said").read_text())
    seconds = time.perf_counter() - started
    left = len(_kept(folder))
    return {"documents": count, "bytes": size, "kept": left, "seconds": seconds, **tree.most}


class _Tree:
    """Looks at the memory of a process and all below it, together, from a thread, until the block ends."""

    def __init__(self, pid: int) -> None:
        self.most = {"rss_mb": 0.0, "anon_mb": 0.0}
        """The most of the sums: resident memory (files that are mapped by two processes count twice), and what is the
        processes' own."""
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Tree:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            told = {}
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    try:
                        rows = (line.partition(":") for line in (folder / "status").read_text().splitlines())
                        told[int(folder.name)] = {name: value for name, _, value in rows}
                    except OSError:
                        continue
            mine = {self._pid}
            for _ in range(4):  # generations
                mine |= {pid for pid, row in told.items() if int(row["PPid"]) in mine}
            for name, key in (("rss_mb", "VmRSS"), ("anon_mb", "RssAnon")):
                total = sum(int(told[pid].get(key, "0 kB").split()[0]) for pid in mine if pid in told) / 1024
                self.most[name] = max(self.most[name], total)


# --- the page -------------------------------------------------------------------------------------------------------


def _table(result: dict[str, Any], times: dict[str, Times], runs: int) -> str:
    quality, memory = result["quality"], result["memory"]
    lines = ["| similarity | pairs | found | 1-(1-s^8)^14 | difference |", "|---|---|---|---|---|"]
    for level, row in result["recall"].items():
        difference = f"{row['found'] - row['theory']:+.4f}"
        lines.append(f"| {level} | {row['pairs']} | {row['found']:.4f} | {row['theory']:.4f} | {difference} |")
    lines += [
        "",
        f"Of {SINGLES:,} unrelated documents among them {result['false_drops_of_unrelated']} were dropped.",
        "",
    ]
    lines += [f"{name}: {told}." for name, told in result["gold"].items()]
    lines += ["", "| | documents/s | s | spread | pairs found | drops in no pair |", "|---|---|---|---|---|---|"]
    for side, name in (("lmgraft", "ours"), ("datatrove", "datatrove")):
        took, rate = times[side], result["documents_per_second"][name]
        found, other = quality["found"][side], quality["other_drops"][side]
        lines.append(f"| {side} | {rate:,.0f} | {took.median:.2f} | {took.spread} | {found:,} | {other} |")
    lines += [
        "",
        f"{quality['documents']:,} documents of about 1 kB with {quality['pairs']:,} planted pairs, of which the"
        f" formula expects {quality['expected']:,.0f} found; both find {quality['found_by_both']:,} of the same. Ratio"
        f" {result['ratio']:.1f}. Medians of {runs}, whole commands, in turn, 2 workers each. {machine()}.",
    ]
    if memory:
        lines += [
            "",
            f"{memory['documents']:,.0f} documents, {memory['bytes'] / 1e9:.2f} GB: {memory['seconds']:.0f} s,"
            f" {memory['kept']:,.0f} kept; at most {memory['rss_mb']:,.0f} MB resident in all processes together"
            f" (mapped files among it), {memory['anon_mb']:,.0f} MB their own.",
        ]
    return "\n".join(lines)
