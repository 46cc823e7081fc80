"""The recipe ``web_corpus`` step by step beside the same steps in ``datatrove``: which pages each of them leaves.

Both begin with the same pages: those that our sources read of the archives and the folders in ``html/`` of the data
that LMGRAFT_TEST_DATA names (what the peer's own reader finds in the archives is compared beside it). After every
step the ids that are left, and the sha256 of their texts, are compared: with ``words=spacy``, which has to be equal,
and with the recipe's own ``words=fast``, of which the differences are told.

The peer's extractor runs without its memory of other pages (``deduplicate``) and without its time limit, which make a
page's fate depend on its neighbours and on the machine; its language step is the library that ours uses, since the
model that it would download is not to be had offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import HERE, machine, once, peer_python

ARCHIVES = ("cc-main-2020-34-part.warc.gz", "dolma-sample-0000.warc.gz")
STEPS = ("html_text", "language", "gopher_repetition", "gopher_quality", "c4", "fineweb", "minhash")

#: A step's documents: the id, and the sha256 of the text.
Left = dict[str, str]


def run(runs: int) -> tuple[str, dict[str, Any]]:
    data = os.environ.get("LMGRAFT_TEST_DATA")
    if not data:
        raise SystemExit("bench web_corpus reads html/ of the folder that LMGRAFT_TEST_DATA names; it is not set")
    with tempfile.TemporaryDirectory(prefix="bench-web-corpus-") as name:
        folder = Path(name)
        ours = _Ours(folder, Path(data) / "html")
        theirs, archives, seconds = _theirs(folder, ours)
        rows = {words: ours.steps(words) for words in WORDS}
    if ours.read != theirs[0]:
        raise SystemExit("the two sides did not begin with the same pages")
    return _table(rows, theirs, _reading(ours, archives), seconds), _result(rows, theirs)


WORDS = ("spacy", "fast")


class _Ours:
    """The recipe with its filters one after another."""

    def __init__(self, folder: Path, html: Path) -> None:
        self.folder = folder
        self.archives = folder / "archives"
        self.archives.mkdir()
        for name in ARCHIVES:
            (self.archives / name).symlink_to((html / "warc" / name).resolve())
        pages = [html / sub for sub in ("scrapinghub", "trafilatura")]
        self._paths = [f"crawl.path={self.archives}", f"pages.path=[{','.join(map(str, pages))}]"]
        self.records: dict[str, str] = {}
        """Record of an archive, as the archive names it -> our id."""
        self.markup = self.documents((), "fast")
        self.read = {name: _digest(text) for name, text in self.markup.items()}

    def steps(self, words: str) -> list[Left]:
        """What is left after each step. The pages are extracted once: the steps after it begin with their texts."""
        texts = self.documents(STEPS[:1], words)
        extracted = self.folder / f"extracted-{words}.jsonl"
        _write(extracted, texts)
        found = [texts, *(self.documents(STEPS[1:end], words, extracted) for end in range(2, len(STEPS) + 1))]
        whole = self.documents(STEPS, words)
        if whole != found[-1]:
            raise SystemExit("the recipe in one go leaves other documents than its steps one after another")
        return [{name: _digest(text) for name, text in left.items()} for left in found]

    def documents(self, filters: Sequence[str], words: str, texts: Path | None = None) -> dict[str, str]:
        """Id -> text of what these filters leave of the pages, or of ``texts``."""
        import pyarrow.parquet as pq

        paths = self._paths
        if texts is not None:
            paths = ["data_source@corpus.sources=[files]", f"corpus.sources.files.path={texts}"]
        chosen = f"filter@corpus.filters=[{','.join(filters)}]"
        run_dir = self.folder / "runs" / f"{len(filters)}-{words}-{texts is None}"
        command = [sys.executable, "-m", "lmgraft", "run", "web_corpus", *paths, chosen, f"words={words}"]
        once([*command, f"run.dir={run_dir}", f"store.dir={self.folder / 'store'}"])
        found: dict[str, str] = {}
        for shard in sorted((run_dir / "stages" / "corpus").glob("*.parquet")):
            for row in pq.read_table(shard, columns=["id", "text", "meta"]).to_pylist():
                meta = json.loads(row["meta"] or "{}")
                name = meta.get("page", row["id"])
                found[name] = row["text"]
                if record := meta.get("record_id"):
                    self.records[record] = name
        return found


def _theirs(folder: Path, ours: _Ours) -> tuple[list[Left], Left, float]:
    """What is left at the start and after each step; what its own reader finds in the archives; and the seconds."""
    python = peer_python("web_corpus")
    out = folder / "theirs"
    out.mkdir()
    (folder / "documents").mkdir()
    _write(folder / "documents" / "all.jsonl", ours.markup)
    given = {
        "warc": str(ours.archives),
        "documents": str(folder / "documents"),
        "out": str(out),
        "languages": ["en"],
    }
    took = once([python, HERE / "peers" / "web_corpus_steps.py", json.dumps(given)])
    traces = [json.loads((out / f"{step}.json").read_text()) for step in ("warc", "read", *STEPS)]
    archives, *left = [{name: sha for name, sha, _ in rows} for rows in traces]
    return left, archives, took.seconds


def _reading(ours: _Ours, archives: Left) -> str:
    mine = {record: ours.read[name] for record, name in ours.records.items()}
    apart, texts = _unlike(mine, archives)
    return (
        f"Of the archives ours reads {len(mine)} pages and datatrove's own reader {len(archives)}: {apart} apart,"
        f" {texts} decoded otherwise; both then go on with the pages as ours has them."
    )


def _write(path: Path, texts: Mapping[str, str]) -> None:
    lines = [json.dumps({"id": name, "page": name, "text": text}) for name, text in texts.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unlike(mine: Left, theirs: Left) -> tuple[int, int]:
    """Documents that one side has alone, and those of both whose texts differ."""
    both = mine.keys() & theirs.keys()
    return len(mine.keys() ^ theirs.keys()), sum(mine[name] != theirs[name] for name in both)


def _table(rows: Mapping[str, Sequence[Left]], theirs: Sequence[Left], reading: str, seconds: float) -> str:
    lines = [
        "| after | datatrove | words=spacy | ids apart | texts apart | words=fast | ids apart |",
        "|---|" + "---|" * 6,
    ]
    for place, step in enumerate(STEPS):
        left = theirs[place + 1]
        spacy, fast = (rows[words][place] for words in WORDS)
        (apart, texts), (other, _) = _unlike(spacy, left), _unlike(fast, left)
        lines.append(f"| {step} | {len(left)} | {len(spacy)} | {apart} | {texts} | {len(fast)} | {other} |")
    start = f"{len(theirs[0])} pages; all steps of datatrove in {seconds:.0f} s, one process. {machine()}."
    return "\n".join([*lines, "", f"{reading} {start}"])


def _result(rows: Mapping[str, Sequence[Left]], theirs: Sequence[Left]) -> dict[str, Any]:
    last = len(STEPS) - 1
    apart = {words: [_unlike(rows[words][place], theirs[place + 1]) for place in range(len(STEPS))] for words in WORDS}
    return {
        "name": "web_corpus",
        "equal": all(ids == 0 for ids, _ in apart["spacy"]),
        "pages": len(theirs[0]),
        "left": {"ours": len(rows["spacy"][last]), "fast": len(rows["fast"][last]), "datatrove": len(theirs[-1])},
        "apart": apart,
        "unit": "pages",
    }
