"""Our side of bench generate: ``python -m bench._generate_ours FOLDER PRECISION - PROMPTS``, as the peer's script."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import lmgraft
from lmgraft.seams.parallelism import BatchingHandle, Sampling


def main(folder: str, precision: str, _: str, prompts: str) -> None:
    asked = json.loads(Path(prompts).read_text(encoding="utf-8"))
    handle = lmgraft.load(folder, device="cpu", precision=precision)
    assert isinstance(handle, BatchingHandle)

    def write(count: int) -> tuple[float, list[list[int]]]:
        started = time.perf_counter()
        texts = handle.decoding()
        made: dict[int, list[int]] = {
            texts.add(prompt, Sampling(max_new_tokens=count, temperature=0)): [] for prompt in asked["prompts"]
        }
        while len(texts):
            for number, token, _ in texts.step():
                made[number].append(token)
        return time.perf_counter() - started, list(made.values())

    write(asked["new"])
    seconds, ids = write(asked["new"])
    first, _ids = write(1)
    print(json.dumps({"seconds": seconds, "first": first, "ids": ids}))


if __name__ == "__main__":
    main(*sys.argv[1:])
