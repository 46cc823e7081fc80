"""gigatoken by itself on the same files: ``python -m bench._tokenize_raw CORPUS TOKENIZER``; two threads.

Prints what it takes for the Parquet files by its own reader (``files``), and for all text in memory as one Arrow array
(``memory``). It writes nothing, adds no end tokens, and keeps all ids as uint32.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "2"

import awkward
import gigatoken
import pyarrow as pa
import pyarrow.parquet as pq


def main(corpus: str, tokenizer: str) -> None:
    content = json.loads((Path(tokenizer) / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(content | {"added_tokens": [], "post_processor": None})
    shards = sorted(Path(corpus).glob("*.parquet"))
    encoder = gigatoken.Tokenizer.from_json(text)
    started = time.perf_counter()
    files = encoder.encode_files(gigatoken.ParquetFileSource(shards))
    took = {"files": time.perf_counter() - started, "tokens": len(files.layout.content)}
    del files
    encoder = gigatoken.Tokenizer.from_json(text)
    column = pa.chunked_array([chunk for shard in shards for chunk in pq.read_table(shard, columns=["text"])[0].chunks])
    array = awkward.from_arrow(column.cast(pa.large_string()).combine_chunks())
    del column
    started = time.perf_counter()
    encoder.encode_batch(array, parallel=True)
    print(json.dumps(took | {"memory": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
