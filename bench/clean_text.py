"""``unicode``, ``emoji`` and ``spelling`` on real texts: documents a second, and what is misspelt in clean texts.

Each text is cut to documents of about 1 kB, between words. Beside the first two stand the libraries alone, on the same
documents, in turn (A B A B); documents a second are of processor time of this process. Needs ``LMGRAFT_TEST_DATA``.
"""

from __future__ import annotations

import gzip
import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from lmgraft.seams.data_source import Document
from lmgraft_clean_text.emoji import Emoji
from lmgraft_clean_text.mojibake import CONFIG
from lmgraft_clean_text.plugin import EmojiConfig, SpellingConfig, UnicodeConfig
from lmgraft_clean_text.spelling import Spelling
from lmgraft_clean_text.unicode import Unicode

from bench._classifiers_rows import data

SIZE = 1000
ENGLISH = {
    "C4, a sample": "corpus/c4_demo.jsonl.gz",
    "Wikipedia, a sample": "corpus/wiki_demo.txt.gz",
    "inaugural addresses": "corpus/us_inaugural.jsonl.gz",
    "King James Bible": "corpus/kjv_bible.jsonl.gz",
    "Gutenberg books": "corpus/gutenberg_books.jsonl.gz",
    "Debian handbook": "corpus/debian_handbook_en.jsonl.gz",
}
OTHERS = {
    "Chinese": "multilingual/zh_debian_reference.jsonl.gz",
    "Russian": "multilingual/ru_ruslit.jsonl.gz",
    "Turkish": "multilingual/tr_manpages.jsonl.gz",
}
#: Documents of a text at most.
MOST = 1000


def run(runs: int) -> tuple[str, dict[str, Any]]:
    from emoji import demojize
    from ftfy import fix_encoding

    sides: dict[str, tuple[Any, Callable[[str], str]]] = {
        "unicode": (
            Unicode(UnicodeConfig()),
            lambda text: unicodedata.normalize(
                "NFC", "\n".join(fix_encoding(line, CONFIG) for line in text.split("\n"))
            ),
        ),
        "emoji": (Emoji(EmojiConfig()), demojize),
    }
    speed: dict[str, dict[str, tuple[float, float]]] = {}
    for name, path in {"C4, a sample": ENGLISH["C4, a sample"], **OTHERS}.items():
        texts = _documents(path)
        speed[name] = {side: _alternate(part, peer, texts, runs) for side, (part, peer) in sides.items()}
    spelling = {name: _spelling(_documents(path), runs) for name, path in ENGLISH.items()}
    return _table(speed, spelling), {"speed": speed, "spelling": spelling}


def _documents(path: str) -> list[str]:
    with gzip.open(data() / path, "rt", encoding="utf-8") as file:
        read = file.read()
    whole = "\n".join(json.loads(line)["text"] for line in read.split("\n") if line) if "jsonl" in path else read
    return [match[0] for match in islice(re.finditer(rf"(?s).{{1,{SIZE}}}(?=\s|\Z)", whole), MOST)]


def _alternate(part: Any, peer: Callable[[str], str], texts: Sequence[str], runs: int) -> tuple[float, float]:
    """(ours, the library's) documents a second, the best of each."""
    batch = [Document(str(number), text=text) for number, text in enumerate(texts)]
    ours, theirs = [], []
    for _ in range(max(1, runs)):
        ours.append(_seconds(lambda: part.judge(batch)))
        theirs.append(_seconds(lambda: [peer(text) for text in texts]))
    return len(texts) / min(ours), len(texts) / min(theirs)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _spelling(texts: Sequence[str], runs: int) -> dict[str, float]:
    part = Spelling(SpellingConfig())
    batch = [Document(str(number), text=text) for number, text in enumerate(texts)]
    part.judge(batch[:1])
    seconds = min(_seconds(lambda: part.judge(batch)) for _ in range(max(1, runs)))
    counts: Counter[str] = Counter()
    for verdict in part.judge(batch):
        counts.update(verdict.counts)
    return {"words": counts["words"], "misspelt": counts["misspelt"], "per_second": len(texts) / seconds}


def _table(speed: dict[str, dict[str, tuple[float, float]]], spelling: dict[str, dict[str, float]]) -> str:
    lines = ["Documents of 1 kB a second:", "", "| texts | unicode | ftfy and NFC | emoji | emoji.demojize |"]
    lines.append("|---|---|---|---|---|")
    for name, found in speed.items():
        lines.append(f"| {name} | " + " | ".join(f"{side:,.0f}" for pair in found.values() for side in pair) + " |")
    lines += ["", "`spelling` on clean texts:", "", "| texts | words | misspelt | of 10,000 words | documents/s |"]
    lines.append("|---|---|---|---|---|")
    for name, row in spelling.items():
        share = 10_000 * row["misspelt"] / row["words"]
        lines.append(f"| {name} | {row['words']:,} | {row['misspelt']:,} | {share:.1f} | {row['per_second']:,.0f} |")
    return "\n".join(lines)
