"""The tokens stage by itself, in a process of its own: ``python -m bench._tokenize_ours CORPUS TOKENIZER OUT ENCODER``.

Prints what the stage took, imports aside, and the sha256 of the ids.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.stages.encoders import Encoder
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokens import Tokens


class Context:
    """What the stage needs of the runner."""

    name = "tokens"

    def __init__(self, folder: Path, corpus: str, tokenizer: str) -> None:
        self.out, self.work = folder / "out", folder / "work"
        self.inputs = {
            "corpus": [Artifact("corpus", Path(corpus), "", "corpus")],
            "tokenizer": [Artifact("tokenizer", Path(tokenizer), "", "tokenizer")],
        }
        self.said: list[str] = []
        for place in (self.out, self.work):
            place.mkdir(parents=True)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None: ...

    def alive(self) -> None: ...

    def emit(self, row: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


def main(corpus: str, tokenizer: str, out: str, encoder: str) -> None:
    context: Any = Context(Path(out), corpus, tokenizer)
    started = time.perf_counter()
    Tokens(TokensStage(encoder=Encoder(encoder), workers=2)).run(context)
    seconds = time.perf_counter() - started
    with (context.out / "train.bin").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(json.dumps({"seconds": seconds, "sha256": digest, "said": context.said}))


if __name__ == "__main__":
    main(*sys.argv[1:])
