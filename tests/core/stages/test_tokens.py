"""The stage ``tokens`` on a small corpus written here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import Artifact, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Stopped, UserError
from lmgraft.stages import tokens as stage_module
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokens import Tokens
from lmgraft_byte_bpe.plugin import ByteBPEConfig
from lmgraft_byte_bpe.tokenizer import ByteBPE

TEXTS = {
    "train": [
        *(f"document {n} of many, it's {'so ' * (n % 50)}long\n\n" for n in range(400)),
        "",
        "it says <|endoftext|> and <|pad|> in so many words",
        "a long one over several batches, ünïcode 漢字 too\n" * 400,
    ],
    "validation": ["held out", "and more that is held out"],
}


@dataclass
class Context:
    """What a stage needs of the runner, without one."""

    out: Path
    inputs: Mapping[str, list[Artifact]]
    name: str = "tokens"
    stop: bool = False
    advanced: list[float] = field(default_factory=list)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.advanced.append(amount)

    def alive(self) -> None:
        if self.stop:
            raise Stopped


def write_corpus(folder: Path, texts: Mapping[str, list[str | None]]) -> Path:
    folder.mkdir()
    for split, rows in texts.items():
        ids = [f"s/{split}{n}" for n in range(len(rows))]
        columns = {"id": ids, "text": rows, "source": ["s"] * len(ids), "group": ids, "meta": ["{}"] * len(ids)}
        table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    sizes = {split: sum(len(text.encode()) for text in rows if text) for split, rows in texts.items()}
    (folder / "funnel.json").write_text(json.dumps({"bytes": sizes}))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    part = ByteBPE(ByteBPEConfig(vocab_size=400))
    part.train(TEXTS["train"])
    part.save(folder)
    (folder / "measure.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus", TEXTS)


def context(corpus: Path, tokenizer: Path, out: Path, **more: Any) -> Any:
    out.mkdir(exist_ok=True)
    inputs = {
        "corpus": [Artifact("corpus", corpus, "", "corpus")],
        "tokenizer": [Artifact("tokenizer", tokenizer, "", "tokenizer")],
    }
    return Context(out, inputs, **more)


def test_every_document_and_nothing_else(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    told = context(corpus, tokenizer, tmp_path)
    stage = Tokens(TokensStage(workers=2))
    stage.run(told)
    saved = tokenizers.load(tmp_path)
    held = tokens.info(tmp_path)
    assert (held.vocab_size, held.end_id, held.pad_id, held.dtype) == (saved.vocab_size, 0, 1, "uint16")
    assert held.fingerprint == saved.fingerprint()
    for split, texts in TEXTS.items():
        file = tokens.TokenFile(tmp_path / split)
        assert [saved.decode(file[n][:-1]) for n in range(len(file))] == texts
        assert all(file[n].tolist().count(saved.end_id) == 1 for n in range(len(file)))
        count = held.splits[split]
        assert (count.documents, count.tokens) == (len(texts), file.tokens)
        assert (count.bytes, count.characters) == (len("".join(texts).encode()), len("".join(texts)))
    assert sum(told.advanced) == sum(count.bytes for count in held.splits.values())
    assert tokens.verify(tmp_path) == []
    names = {"tokens.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {f"{s}.{x}" for s in TEXTS for x in ("bin", "idx")}
    train = held.splits["train"]
    assert dict(stage.summary(Artifact("tokens", tmp_path, ""))) == {
        "train tokens": f"{train.tokens:,}",
        "train documents": "403",
        "validation tokens": str(held.splits["validation"].tokens),
        "validation documents": "2",
        "bytes a token": f"{train.bytes / train.tokens:.2f}",
    }


def test_workers_and_batches_change_nothing(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, workers, batch in (("a", 1, 1 << 20), ("b", 3, 500), ("c", 0, 1)):
        monkeypatch.setattr(stage_module, "BATCH", batch)
        Tokens(TokensStage(workers=workers)).run(context(corpus, tokenizer, tmp_path / name))
    for file in (tmp_path / "a").iterdir():
        for other in ("b", "c"):
            assert file.read_bytes() == (tmp_path / other / file.name).read_bytes()


def test_without_a_validation_split(tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": ["one", "two"]})
    Tokens(TokensStage()).run(context(corpus, tokenizer, tmp_path / "out"))
    assert list(tokens.info(tmp_path / "out").splits) == ["train"]


def test_conversations_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": ["one", None]})
    with pytest.raises(UserError, match=r"'s/train1' of split train has no text"):
        Tokens(TokensStage()).run(context(corpus, tokenizer, tmp_path / "out"))


def test_an_empty_corpus_is_a_user_error(tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": []})
    with pytest.raises(UserError, match="no training text"):
        Tokens(TokensStage()).run(context(corpus, tokenizer, tmp_path / "out"))


def test_a_signal_stops_it_and_leaves_no_half_file(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Tokens(TokensStage()).run(context(corpus, tokenizer, tmp_path, stop=True))
    assert not list(tmp_path.glob("train*"))
