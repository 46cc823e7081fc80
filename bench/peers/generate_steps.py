"""transformers.generate: ``python generate_steps.py FOLDER PRECISION CACHE PROMPTS``, PROMPTS a JSON file.

Loads the model in PRECISION, reads and writes once to warm up, then once more on the clock. CACHE is ``dynamic`` (what
generate takes by itself) or ``static``. Prints one JSON object: seconds, ids, and the seconds of one token alone.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main(folder: str, precision: str, cache: str, prompts: str) -> None:
    asked = json.loads(Path(prompts).read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).eval()
    tokens = torch.tensor(asked["prompts"])
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if cache == "static":
        settings["cache_implementation"] = "static"

    def write(count: int) -> tuple[float, list[list[int]]]:
        started = time.perf_counter()
        made = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, min_new_tokens=count, **settings
        )
        return time.perf_counter() - started, made[:, tokens.shape[1] :].tolist()

    write(asked["new"])
    seconds, ids = write(asked["new"])
    first, _ = write(1)
    print(json.dumps({"seconds": seconds, "first": first, "ids": ids}))


if __name__ == "__main__":
    main(*sys.argv[1:])
