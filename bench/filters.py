"""The four filters of web pages (Gopher's two, C4's, FineWeb's) beside datatrove's: the same verdicts, and how fast.

First the verdicts, on 20,000 documents, real ones and ones changed so that every rule has at least 100 to drop (of
``LMGRAFT_TEST_DATA`` where it is set, of this Python's documentation otherwise). With ``words: spacy`` the reason of
each filter, what C4 leaves and the lines it counts are equal on every document, and the documents that the corpus stage
keeps are those that datatrove's own pipeline keeps, byte for byte; with the default, ``words: fast``, every rule by
itself agrees on 99% of documents or more. Where that does not hold, nothing is timed.

Then the time, with the default: whole commands, JSON Lines to written output, two workers on each side, on the same
documents less those of 100,000 words. And the four filters alone, in one process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import _filters_ours as ours
from bench._filters_documents import documents
from bench.measure import HERE, PEERS, Times, alternate, machine, once, peer_python

DOCUMENTS = 20_000
LEAST_FIRED = 100
LEAST_AGREED = 0.99
DATATROVE = HERE / "_filters_datatrove.py"
ROOT = HERE.parent
RECIPE = """
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - filter@corpus.filters: [gopher_repetition, gopher_quality, c4, fineweb]
  - _self_
stages: [corpus]
corpus:
  workers: 2
  sources:
    files:
      path: PATH
"""

Row = dict[str, str]


def run(runs: int) -> tuple[str, dict[str, Any]]:
    if find_spec("spacy") is None:
        raise SystemExit("this bench compares with spaCy's words on both sides: pip install 'lmgraft[spacy]'")
    peer = peer_python("filters")
    with tempfile.TemporaryDirectory(prefix="bench-filters-") as name:
        work = _Work(Path(name), peer, documents(DOCUMENTS))
        agreed = work.agreement()
        same = work.same_output()
        times = work.times(max(1, min(runs, 3)))
        bare = work.bare()
    return _table(agreed, times, bare, work, runs), _result(agreed, times, bare, same, work)


class _Work:
    """The documents, as files for both sides, and the commands that filter them."""

    def __init__(self, folder: Path, peer: Path, rows: Sequence[Row]) -> None:
        self.folder, self.peer, self.rows = folder, peer, rows
        self.timed = [row for row in rows if not row["id"].startswith("long-")]
        self.real = sum(row["id"].startswith("real-") for row in rows)
        self.all = _write(folder / "all", rows)
        self.source = _write(folder / "source", self.timed)
        recipe = folder / "bench.yaml"
        recipe.write_text(RECIPE.replace("PATH", str(self.source)), encoding="utf-8")
        lmgraft = Path(sys.executable).parent / "lmgraft"
        places = [f"run.dir={folder / 'run'}", f"store.dir={folder / 'store'}"]
        self.commands: dict[str, list[str | Path]] = {
            "lmgraft run": [lmgraft, "run", "-q", recipe, *places],
            "datatrove": [peer, DATATROVE, "pipeline", self.source, folder / "theirs"],
        }

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def agreement(self) -> dict[str, dict[str, float]]:
        """Rule -> how often it fires on either side and on how many documents they agree; raises where too few do."""
        theirs = self._theirs()
        _equal(ours.labels(self.rows, "spacy"), theirs)
        found = _rules(ours.labels(self.rows, "fast"), theirs)
        for rule, row in found.items():
            if row["fired"] < LEAST_FIRED:
                raise SystemExit(f"{rule} drops {row['fired']:.0f} documents: too few to compare")
            if row["agreed"] < LEAST_AGREED:
                raise SystemExit(f"{rule}: the fast splitter agrees on {row['agreed']:.2%} of documents")
        return found

    def _theirs(self) -> list[dict[str, Any]]:
        """datatrove's answers, in two processes; kept beside its environment, since they take minutes."""
        digest = hashlib.sha256(DATATROVE.read_bytes() + (HERE / "peers" / "filters.txt").read_bytes())
        for file in sorted(self.all.iterdir()):
            digest.update(file.read_bytes())
        kept = PEERS / "filters" / f"labels-{digest.hexdigest()[:16]}.json"
        if not kept.is_file():
            print("asking datatrove about every document and rule (once, some minutes) ...", file=sys.stderr)
            halves = [_write(self.folder / f"half-{number}", self.rows[number::2], files=1) for number in range(2)]
            command = [str(self.peer), "-W", "ignore", str(DATATROVE), "labels"]
            answers = [half.with_suffix(".json") for half in halves]
            asked = [
                subprocess.Popen([*command, str(half), str(answer)], stderr=subprocess.DEVNULL)
                for half, answer in zip(halves, answers, strict=True)
            ]
            if sum(abs(process.wait()) for process in asked):
                raise SystemExit("datatrove failed on the documents")
            found = {row["id"]: row for answer in answers for row in json.loads(answer.read_bytes())}
            kept.write_text(json.dumps([found[row["id"]] for row in self.rows]), encoding="utf-8")
        return list(json.loads(kept.read_bytes()))

    def same_output(self) -> int:
        """How many documents both pipelines write, with spaCy's words; raises where ids or texts differ."""
        import pyarrow.dataset as ds

        words = [f"corpus.filters.{name}.words=spacy" for name in ours.FOUR]
        self.clear()
        once([*self.commands["lmgraft run"], *words], self.env())
        once(self.commands["datatrove"], self.env())
        shards = [str(file) for file in (self.folder / "store").rglob("*.parquet")]
        table = ds.dataset(shards).to_table(columns=["id", "text"]).to_pylist()
        mine = {row["id"].rpartition("/")[2].rpartition("#")[2]: row["text"] for row in table}
        out = (self.folder / "theirs" / "out").glob("*.jsonl")
        theirs = [json.loads(line) for file in out for line in file.read_bytes().splitlines()]
        if Counter(mine.values()) != Counter(row["text"] for row in theirs):
            raise SystemExit(f"the pipelines keep different texts: {len(table)} here, {len(theirs)} at datatrove")
        return len(theirs)

    # --- time ---------------------------------------------------------------------------------------------------------

    def times(self, runs: int) -> dict[str, Times]:
        return alternate(self.commands, runs, self.env(), self.clear)

    def bare(self) -> dict[str, dict[str, float]]:
        """The four filters in one process, CPU seconds: the best of two or three."""
        commands = {
            "lmgraft": [sys.executable, "-m", "bench._filters_ours", "bare", self.source],
            "datatrove": [self.peer, DATATROVE, "bare", self.source],
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for name in [*commands, *commands, "lmgraft"]:
            out = self.folder / "bare.json"
            once([*commands[name], out], self.env())
            found[name].append(json.loads(out.read_bytes()))
        return {name: min(tries, key=lambda one: one["cpu"]) for name, tries in found.items()}

    def clear(self) -> None:
        for name in ("run", "store", "theirs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def env(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def _write(folder: Path, rows: Sequence[Row], files: int = 2) -> Path:
    folder.mkdir()
    for number in range(files):
        lines = (json.dumps(row) + "\n" for row in rows[number::files])
        (folder / f"{number}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def _equal(mine: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> None:
    """Raises where a reason, a text that C4 leaves, a count of its lines or a rule by itself differs."""
    for own, other in zip(mine, theirs, strict=True):
        for key in other:
            if own[key] != other[key]:
                raise SystemExit(f"{own['id']}: {key} is {own[key]!r:.200} here and {other[key]!r:.200} at datatrove")


def _rules(mine: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    here, there, differ = Counter[str](), Counter[str](), Counter[str]()
    for own, other in zip(mine, theirs, strict=True):
        here.update(own["fired"])
        there.update(other["fired"])
        differ.update(set(own["fired"]) ^ set(other["fired"]))
    rules = sorted(here | there)
    return {rule: {"fired": there[rule], "ours": here[rule], "agreed": 1 - differ[rule] / len(mine)} for rule in rules}


def _table(
    agreed: Mapping[str, Mapping[str, float]],
    times: Mapping[str, Times],
    bare: Mapping[str, Any],
    work: _Work,
    runs: int,
) -> str:
    mine, theirs = times["lmgraft run"], times["datatrove"]
    count = len(work.timed)
    size = sum(len(row["text"].encode()) for row in work.timed)
    lines = ["| | s | spread | documents/s | MB/s | ratio to ours |", "|---|---|---|---|---|---|"]
    for name, took in times.items():
        lines.append(
            f"| {name}, 2 workers | {took.median:.2f} | {took.spread} | {count / took.median:,.0f}"
            f" | {size / took.median / 1e6:.2f} | {took.median / mine.median:.1f} |"
        )
    least = bare["lmgraft"]["cpu"]
    for name, one in bare.items():
        lines.append(
            f"| {name}, filters alone | {one['cpu']:.2f} | | {count / one['cpu']:,.0f} | {size / one['cpu'] / 1e6:.2f}"
            f" | {one['cpu'] / least:.1f} |"
        )
    lines += ["", "| rule | fires at datatrove | with `words: fast` | agreement |", "|---|---|---|---|"]
    lines += [f"| {rule} | {row['fired']} | {row['ours']} | {row['agreed']:.2%} |" for rule, row in agreed.items()]
    text = (
        f"{len(work.rows):,} documents, {work.real:,} real; all verdicts equal with `words: spacy`. Timed on"
        f" {count:,} of {size / count / 1000:.1f} kB, whole processes in turn, medians of {max(1, min(runs, 3))};"
        f" filters alone in CPU seconds. datatrove {theirs.median / mine.median:.1f} times as long. {machine()}."
    )
    return "\n".join([*lines, "", text])


def _result(
    agreed: Mapping[str, Mapping[str, float]],
    times: Mapping[str, Times],
    bare: Mapping[str, Any],
    same: int,
    work: _Work,
) -> dict[str, Any]:
    mine, theirs = times["lmgraft run"], times["datatrove"]
    return {
        "name": "filters",
        "equal": True,
        "documents": len(work.rows),
        "real": work.real,
        "kept_by_both": same,
        "ours": len(work.timed) / mine.median,
        "peers": {"datatrove": len(work.timed) / theirs.median},
        "ratio": theirs.median / mine.median,
        "unit": "documents per second, 2 workers, JSON Lines to written output",
        "peak_mb": {name: took.peak_mb for name, took in times.items()},
        "filters_alone": {name: len(work.timed) / one["cpu"] for name, one in bare.items()},
        "filters_alone_ratio": bare["datatrove"]["cpu"] / bare["lmgraft"]["cpu"],
        "rules": agreed,
    }
