"""The recipe ``web_corpus``, end to end on saved pages that are made here, and on real ones where they are at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("trafilatura", reason="pip install 'lmgraft[web]'")

STORIES = 5
OTHER = (
    "Der Garten hinter dem Haus war im Sommer voller Blumen, und die Kinder spielten dort jeden Nachmittag.",
    "Niemand wusste mehr, wer die alten Bäume gepflanzt hatte, doch alle freuten sich über den Schatten.",
)


def page(*paragraphs: str) -> str:
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    menu = "<nav><a href='/'>Home</a> <a href='/about'>About us</a></nav>"
    return f"<html><head><title>A page</title></head><body>{menu}<article>{text}</article></body></html>"


def story(number: int) -> list[str]:
    """Four paragraphs of running text, of this Python's documentation; no two stories share one."""
    blocks = (" ".join(block.split()) for name in sorted(topics) for block in topics[name].split("\n\n"))
    prose = list(dict.fromkeys(text for text in blocks if len(text) > 150 and text.endswith(".") and _plain(text)))
    return prose[number :: STORIES + 2][:4]


def _plain(text: str) -> bool:
    """Few signs for so many words: Gopher's rule counts each of them as a word."""
    return sum(not (sign.isalnum() or sign == " ") for sign in text) < 0.18 * len(text.split())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for number in range(STORIES):
        (folder / f"story-{number}.html").write_text(page(*story(number)), encoding="utf-8")
    (folder / "story-0-mirror.html").write_text(page(*story(0)), encoding="utf-8")
    mail = "Write to keeper.of.it@lighthouse-friends.org for tickets and for the hours in which it is open."
    (folder / "mail.html").write_text(page(*story(STORIES), mail), encoding="utf-8")
    (folder / "german.html").write_text(page(*OTHER * 4), encoding="utf-8")
    (folder / "short.html").write_text(page("The harbour is closed on the days of the fair."), encoding="utf-8")
    again = [f"{line} {line}" for line in story(STORIES + 1)]
    (folder / "again.html").write_text(page(*again), encoding="utf-8")
    return folder


def lmgraft(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lmgraft", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def funnel(run: Path) -> dict[str, Any]:
    found = json.loads((run / "stages" / "corpus" / "funnel.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in found["filters"]}


def texts(run: Path) -> dict[str, str]:
    from lmgraft.artifacts.corpus import documents

    return {document.id: document.text or "" for document in documents(run / "stages" / "corpus", "train")}


def test_every_step_has_its_say(tmp_path: Path, pages: Path) -> None:
    done = lmgraft(tmp_path, "run", "web_corpus", f"pages.path={pages}", "run.dir=run")
    assert done.returncode == 0, done.stderr
    steps = funnel(tmp_path / "run")
    order = ["url", "html_text", "language", "gopher_repetition", "gopher_quality", "c4", "fineweb", "minhash", "pii"]
    assert list(steps) == order
    left = texts(tmp_path / "run")
    stories = {f"html_pages/story-{number}.html" for number in range(1, STORIES)}
    mirrored = {"html_pages/story-0.html", "html_pages/story-0-mirror.html"}
    assert stories | {"html_pages/mail.html"} <= left.keys()
    assert len(mirrored & left.keys()) == 1
    assert not left.keys() & {f"html_pages/{name}.html" for name in ("german", "short", "again")}
    assert steps["language"]["counts"]["de"] == 1
    assert steps["minhash"]["dropped"] == {"near_duplicate": 1}
    assert steps["pii"]["counts"] == {"email": 1}
    assert "lighthouse-friends" not in left["html_pages/mail.html"]
    assert not any("About us" in text or "<p>" in text for text in left.values())
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Documents left after each filter" in report


def test_without_pages_it_says_what_to_set(tmp_path: Path) -> None:
    done = lmgraft(tmp_path, "run", "web_corpus", "run.dir=run")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[0] == "corpus has nothing to read"
    assert len(done.stderr.strip().splitlines()) == 3


@pytest.mark.skipif("LMGRAFT_TEST_DATA" not in os.environ, reason="real pages: set LMGRAFT_TEST_DATA")
def test_a_real_slice_of_common_crawl(tmp_path: Path) -> None:
    archives = Path(os.environ["LMGRAFT_TEST_DATA"]) / "html" / "warc"
    runs = {}
    for workers in (1, 2):
        settings = [f"crawl.path={archives}", f"run.dir={workers}", f"store.dir=store-{workers}"]
        done = lmgraft(tmp_path, "run", "web_corpus", *settings, f"corpus.workers={workers}")
        assert done.returncode == 0, done.stderr
        runs[workers] = json.loads((tmp_path / str(workers) / "run.json").read_text(encoding="utf-8"))
    assert runs[1]["stages"]["corpus"]["digest"] == runs[2]["stages"]["corpus"]["digest"]
    told = json.loads((tmp_path / "1" / "stages" / "corpus" / "funnel.json").read_text(encoding="utf-8"))
    source = told["sources"]["common_crawl"]
    assert sum(source["damaged"].values()) == 2, "the two archives that are broken on purpose"
    assert 0 < told["documents"]["train"] < source["read"]["documents"]
