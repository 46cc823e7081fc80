"""Text for the tokenizer's bench: documents that no corpus holds twice, made of the paragraphs of real ones.

Every file of ``corpus/`` and ``multilingual/`` is cut into paragraphs (long ones at sentences, a few hundred
characters). A document is a few of them, drawn from all corpora; how many follows a log-normal distribution, as the
lengths of pages do: half of the documents have less than 2 kB, a few have 100 kB. A large corpus goes on meeting new
words, about one in a hundred even after a gigabyte (Heaps' law), while these paragraphs come again and again; so one
word of each paragraph, of about a hundred, is exchanged for the head of one word and the tail of another.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from lmgraft.artifacts import corpus

__all__ = ["write"]

SHARD = 128 << 20
CHARACTERS = 600
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")
_WORD = re.compile(r"[^\W\d_]{4,}")


def write(data: Path, folder: Path, size: int) -> dict[str, int]:
    """A corpus artifact with ``size`` bytes of text in Parquet shards; what is in it, counted."""
    folder.mkdir(parents=True)
    shards = max(1, -(-size // SHARD))
    made, documents, total = _distinct(_documents(data)), 0, 0
    layout = corpus.schema({"text"})
    for shard in range(shards):
        with corpus.CorpusWriter(folder / corpus.shard_name("train", shard, shards), {"text"}) as writer:
            while total < size * (shard + 1) / shards:
                texts = [next(made) for _ in range(256)]
                ids = [f"made/{documents + n}" for n in range(len(texts))]
                columns = {
                    "id": ids,
                    "text": texts,
                    "source": ["made"] * len(ids),
                    "group": ids,
                    "meta": ["{}"] * len(ids),
                }
                writer.write(pa.record_batch([pa.array(columns[f.name], f.type) for f in layout], schema=layout))
                documents += len(texts)
                total += sum(len(text.encode()) for text in texts)
    facts = {"bytes": {"train": total}, "documents": {"train": documents}}
    (folder / corpus.FUNNEL).write_text(json.dumps(facts), encoding="utf-8")
    return {"documents": documents, "bytes": total}


def _distinct(texts: Iterator[str]) -> Iterator[str]:
    seen = set()
    for text in texts:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def _documents(data: Path) -> Iterator[str]:
    chance = random.Random(20_261_121)
    paragraphs = [part for folder in ("corpus", "multilingual") for part in _paragraphs(data / folder)]
    while True:
        count = 1 + int(chance.lognormvariate(1.5, 1.0))
        yield "\n\n".join(_renewed(chance, chance.choice(paragraphs), paragraphs) for _ in range(count))


def _renewed(chance: random.Random, text: str, others: list[str]) -> str:
    """``text`` with about one word in a hundred made new."""
    place = chance.randrange(len(text))
    here, there = _WORD.search(text, place), _WORD.search(chance.choice(others))
    if here is None or there is None:
        return text
    head, tail = here[0][: len(here[0]) // 2], there[0][len(there[0]) // 2 :]
    return f"{text[: here.start()]}{head}{tail}{text[here.end() :]}"


def _paragraphs(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.endswith(".md"):
            continue
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        whole = raw.decode(errors="replace")
        texts = (_longest(json.loads(line)) for line in whole.split("\n") if line) if ".jsonl" in path.name else [whole]
        for text in texts:
            for paragraph in re.split(r"\n\s*\n", text):
                yield from _cut(paragraph)


def _longest(row: object) -> str:
    """The longest string of a row: its text, whatever the column is called."""
    if isinstance(row, str):
        return row
    inner = row.values() if isinstance(row, dict) else row if isinstance(row, list) else ()
    return max(map(_longest, inner), key=len, default="")


def _cut(paragraph: str) -> Iterator[str]:
    held = ""
    for sentence in _SENTENCE.split(paragraph):
        if held and len(held) + len(sentence) > CHARACTERS:
            yield held
            held = ""
        held += f" {sentence}" if held and sentence[:1].isascii() else sentence
    if len(held) > 20:
        yield held
