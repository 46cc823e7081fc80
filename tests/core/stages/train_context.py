"""A train stage's context without a run around it, packed tokens of a byte each, and a stage of first-party parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.errors import Stopped
from lmgraft.registry import build, registry
from lmgraft.stages.plugin import Precision, TrainStage
from lmgraft.stages.train import Train

TEXTS = [f"{n} and {n} make {n + n}, and {n} times {n} makes {n * n}." for n in range(400)]

PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "architecture": ("llama", {"layers": 2, "hidden": 32, "heads": 2, "kv_heads": 1, "mlp": 48, "context": 64}),
    "objective": ("causal_lm", {}),
    "optimizer": ("adamw", {"lr": 0.01}),
    "schedule": ("cosine", {}),
    "initializer": ("normal", {}),
    "parallelism": ("single", {"threads": 1}),
}


class Context:
    """A stage's context without a run around it."""

    name = "pretrain"
    seed = 7
    device = "cpu"

    def __init__(self, folder: Path, inputs: Mapping[str, list[Artifact]], **parts: Any) -> None:
        self.work, self.out = folder / "work", folder / "out"
        shutil.rmtree(self.out, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir()
        self.inputs = inputs
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.done = 0.0
        self.stop_after = float("inf")
        self.parts: dict[str, tuple[Any, Any]] = {}
        for slot, (name, settings) in PARTS.items():
            component = registry().get(slot, name).component
            self.parts[slot] = component, component.config(**settings | parts.get(slot, {}))

    def component(self, path: str) -> tuple[Any, Any]:
        return self.parts[path]

    def part(self, path: str) -> Any:
        return build(*self.parts[path])

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.done += amount

    def emit(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpointed(self, step: int, path: Path) -> None: ...

    def alive(self) -> None:
        if len(self.rows) > self.stop_after:
            raise Stopped("stopped on SIGTERM")


def stage(context: Context, **changes: Any) -> Train:
    settings: dict[str, Any] = {"steps": 12, "batch": 4, "seq_len": 32, "precision": Precision.float32}
    slots = {slot: config for slot, (_, config) in context.parts.items()}
    return Train(TrainStage(**(slots | settings | changes)))


def make_tokens(folder: Path, texts: list[str] = TEXTS, shift: int = 0, words: Sequence[str] = ()) -> Artifact:
    """Every byte is a token, and so are ``words``, after them; ``shift`` gives the bytes other ids."""
    from lmgraft.artifacts import tokenizer, tokens
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: (index + shift) % 256 for index, letter in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|pad|>"])
    made.add_tokens(list(words))
    made.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    saved = tokenizer.load(folder)
    splits = {}
    for split, part in (("train", texts[40:]), ("validation", texts[:40])):
        with tokens.TokenWriter(folder / split, tokens.token_dtype(saved.vocab_size), saved.end_id) as writer:
            for ids in saved.encode_batch(part):
                writer.add(ids)
        size = sum(len(text) for text in part)
        splits[split] = tokens.SplitCount(writer.documents, writer.tokens, size, size)
    tokens.TokensInfo(saved.vocab_size, "uint16", saved.fingerprint(), saved.end_id, saved.pad_id, splits).write(folder)
    return Artifact("tokens", folder, "0" * 64, "tokens")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def timeless(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("tokens_per_second", "data_wait")} for row in rows]
