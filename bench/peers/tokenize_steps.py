"""The way of Hugging Face's run_clm: ``python tokenize_steps.py CORPUS TOKENIZER CACHE``; datasets.map with 2 processes.

Each document is closed by the end token (which run_clm leaves to the tokenizer). Prints what it takes from the loaded
text to blocks of 1,024 ids, and the sha256 of all ids as uint16, before group_texts drops each batch's rest.
"""

import hashlib
import json
import sys
import time
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

BLOCK = 1024


def main(corpus: str, folder: str, cache: str) -> None:
    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", eos_token="<|endoftext|>")
    tokenizer.model_max_length = 1 << 60
    end = tokenizer.eos_token_id

    def tokenize(rows):
        found = tokenizer(rows["text"], add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return {"input_ids": [[*ids, end] for ids in found]}

    def group_texts(rows):
        joined = list(chain(*rows["input_ids"]))
        blocks = [joined[start : start + BLOCK] for start in range(0, len(joined) // BLOCK * BLOCK, BLOCK)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    shards = sorted(map(str, Path(corpus).glob("*.parquet")))
    read = datasets.load_dataset("parquet", data_files=shards, split="train", columns=["text"], cache_dir=cache)
    started = time.perf_counter()
    encoded = read.map(tokenize, batched=True, num_proc=2, remove_columns=read.column_names)
    grouped = encoded.map(group_texts, batched=True, num_proc=2)
    seconds = time.perf_counter() - started
    digest, tokens = hashlib.sha256(), 0
    for chunk in encoded.data.column("input_ids").chunks:
        ids = chunk.flatten().to_numpy().astype(np.uint16)
        digest.update(ids.tobytes())
        tokens += len(ids)
    told = {"seconds": seconds, "sha256": digest.hexdigest(), "tokens": tokens, "blocks": len(grouped)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
