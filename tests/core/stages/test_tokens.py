"""The stage ``tokens`` on a small corpus written here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import Artifact, _pieces, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.encoding import batches, engines
from lmgraft.errors import Stopped, UserError
from lmgraft.stages.encoders import Encoder
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokens import Tokens
from lmgraft_byte_bpe.plugin import ByteBPEConfig
from lmgraft_byte_bpe.tokenizer import ByteBPE
from tokenizers import Tokenizer, models, pre_tokenizers

ENCODERS = ["tokenizers", *(["gigatoken"] if find_spec("gigatoken") else [])]

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
    stop_after: int | None = None
    advanced: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.work")

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.advanced.append(amount)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def emit(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def alive(self) -> None:
        if self.stop_after is not None:
            self.stop_after -= 1
            if self.stop_after < 0:
                raise Stopped


def write_corpus(folder: Path, texts: Mapping[str, list[str | None]], group_rows: int = 100) -> Path:
    folder.mkdir()
    for split, rows in texts.items():
        ids = [f"s/{split}{n}" for n in range(len(rows))]
        columns = {"id": ids, "text": rows, "source": ["s"] * len(ids), "group": ids, "meta": ["{}"] * len(ids)}
        table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=group_rows)
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


@pytest.mark.parametrize("encoder", ENCODERS)
def test_megatron_reads_every_document(corpus: Path, tokenizer: Path, tmp_path: Path, encoder: str) -> None:
    module = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    Tokens(TokensStage(encoder=Encoder(encoder))).run(context(corpus, tokenizer, tmp_path))
    saved = tokenizers.load(tmp_path)
    for split, texts in TEXTS.items():
        theirs = module.IndexedDataset(str(tmp_path / split))
        assert theirs.document_indices.tolist() == list(range(len(texts) + 1))
        assert [theirs[n].tolist() for n in range(len(theirs))] == [[*ids, 0] for ids in saved.encode_batch(texts)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_workers_and_batches_change_nothing(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    Tokens(TokensStage(workers=1, encoder=Encoder.tokenizers)).run(context(corpus, tokenizer, tmp_path / "a"))
    # Batches of one document, and of pieces of the longest ones; text that is read a few rows at a time.
    for name, workers, size, piece in (("b", 3, 500, 1 << 20), ("c", 0, 1, 700), ("d", 2, 4000, 300)):
        monkeypatch.setattr(engines.Reference, "batch_bytes", size)
        monkeypatch.setattr(engines.Gigatoken, "batch_bytes", size)
        monkeypatch.setattr(batches, "PIECE_BYTES", piece)
        monkeypatch.setattr(batches, "READ_BYTES", 3000)
        Tokens(TokensStage(workers=workers, encoder=Encoder(encoder))).run(context(corpus, tokenizer, tmp_path / name))
        assert contents(tmp_path / name) == contents(tmp_path / "a")


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


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_signal_stops_it_and_the_same_command_goes_on(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    config = TokensStage(encoder=Encoder(encoder))
    Tokens(config).run(context(corpus, tokenizer, tmp_path / "whole"))
    monkeypatch.setattr(engines.Reference, "batch_bytes", 2000)
    monkeypatch.setattr(engines.Gigatoken, "batch_bytes", 2000)
    for _ in range(60):
        told = context(corpus, tokenizer, tmp_path / "out", stop_after=3)
        try:
            Tokens(config).run(told)
            break
        except Stopped:
            assert not list(told.out.iterdir())
            shutil.rmtree(told.out)  # as the runner does
    assert told.advanced[0] > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_another_library_began_is_not_gone_on_with(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.Reference, "batch_bytes", 2000)
    with pytest.raises(Stopped):
        Tokens(TokensStage(encoder=Encoder.tokenizers)).run(context(corpus, tokenizer, tmp_path, stop_after=3))
    journal = tmp_path.with_name(f"{tmp_path.name}.work") / "packed" / "train.journal"
    assert json.loads(journal.read_text())["documents"] > 0
    pytest.importorskip("gigatoken")
    told = context(corpus, tokenizer, tmp_path)
    Tokens(TokensStage(encoder=Encoder.gigatoken)).run(told)
    assert told.advanced[0] == 0


# --- the libraries --------------------------------------------------------------------------------------------------


def test_gigatoken_is_taken_where_it_agrees(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("gigatoken")
    told = context(corpus, tokenizer, tmp_path)
    Tokens(TokensStage()).run(told)
    assert len(told.notes) == 1
    assert "encoding with gigatoken" in told.notes[0]
    assert told.rows == [{"encoder": "gigatoken"}]


def test_without_gigatoken(corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tokens(TokensStage()).run(context(corpus, tokenizer, tmp_path / "with"))
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    told = context(corpus, tokenizer, tmp_path / "without")
    Tokens(TokensStage()).run(told)
    assert "encoding with tokenizers; gigatoken: it is not installed" in told.notes[0]
    assert told.rows == [{"encoder": "tokenizers"}]
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    with pytest.raises(UserError, match=r"not installed \(pip install") as error:
        Tokens(TokensStage(encoder=Encoder.gigatoken)).run(context(corpus, tokenizer, tmp_path / "refused"))
    assert "tokens.encoder=auto" in str(error.value)


def test_a_tokenizer_that_gigatoken_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("gigatoken")
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 1, "[PAD]": 2, "one": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["[END]", "[PAD]"])
    (tmp_path / "tokenizer").mkdir()
    words.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    special = {"eos_token": "[END]", "pad_token": "[PAD]"}
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(special))
    corpus = write_corpus(tmp_path / "corpus", {"train": ["one two", "[END] one"]})
    told = context(corpus, tmp_path / "tokenizer", tmp_path / "out")
    Tokens(TokensStage()).run(told)
    assert "gigatoken: it cannot read this tokenizer: Unsupported model type" in told.notes[0]
    assert tokens.TokenFile(tmp_path / "out" / "train")[0].tolist() == [3, 0, 1]


def differing(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """gigatoken that errs in documents with ``word``."""
    right = engines._Instance.encode

    def encode(self: Any, batch: batches.TextBatch) -> engines.Ids:
        flat, offsets = right(self, batch)
        flat = flat.copy()
        for number, text in enumerate(batch.strings()):
            if word in text:
                flat[offsets[number] + 2] += 1
        return flat, offsets

    monkeypatch.setattr(engines._Instance, "encode", encode)


def test_other_ids_in_the_sample(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gigatoken")
    Tokens(TokensStage(encoder=Encoder.tokenizers)).run(context(corpus, tokenizer, tmp_path / "right"))
    differing(monkeypatch, "held")
    told = context(corpus, tokenizer, tmp_path / "out")
    Tokens(TokensStage()).run(told)
    assert "other ids than tokenizers for document 's/validation0' of split validation, from token 2" in told.notes[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "right")
    with pytest.raises(UserError, match="'s/validation0'"):
        Tokens(TokensStage(encoder=Encoder.gigatoken)).run(context(corpus, tokenizer, tmp_path / "refused"))


def test_other_ids_found_while_encoding(tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gigatoken")
    texts = [f"plain document number {n}" for n in range(500)] + ["the odd document that differs"]
    texts += [f"more of the plain documents, {n}" for n in range(500)]
    corpus = write_corpus(tmp_path / "corpus", {"train": texts}, group_rows=10_000)
    Tokens(TokensStage(encoder=Encoder.tokenizers)).run(context(corpus, tokenizer, tmp_path / "right"))
    differing(monkeypatch, "odd document")
    monkeypatch.setattr(engines.Gigatoken, "batch_bytes", 30)  # a batch a document: every one is looked at
    told = context(corpus, tokenizer, tmp_path / "out")
    Tokens(TokensStage()).run(told)
    assert "encoding with gigatoken" in told.notes[0]
    assert "starting over with tokenizers; gigatoken: it gives other ids" in told.notes[1]
    assert "'s/train500' of split train, from token 2" in told.notes[1]
    assert contents(tmp_path / "out") == contents(tmp_path / "right")
    with pytest.raises(UserError, match="'s/train500'"):
        Tokens(TokensStage(encoder=Encoder.gigatoken)).run(context(corpus, tokenizer, tmp_path / "refused"))


def test_a_panic_is_no_traceback(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gigatoken = pytest.importorskip("gigatoken")

    class PanicException(BaseException):  # pyo3's derives from it, too
        pass

    def panics(*args: object, **kwargs: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(gigatoken.Tokenizer, "encode_batch", panics)
    told = context(corpus, tokenizer, tmp_path)
    Tokens(TokensStage()).run(told)
    assert "gigatoken: it broke down: index out of bounds" in told.notes[0]


# --- text without bounds --------------------------------------------------------------------------------------------


def test_a_word_without_an_end_is_refused(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 1000)
    find = _pieces.cutter
    monkeypatch.setattr(tokenizers, "cutter", lambda content: replace(find(content), longest=3000))
    corpus = write_corpus(tmp_path / "corpus", {"train": ["one", "a word " + "x" * 3900, "and " + "y" * 5000]})
    for encoder in ENCODERS:
        with pytest.raises(UserError, match=r"'s/train2' of split train has a word of more than 3,000 bytes"):
            Tokens(TokensStage(encoder=Encoder(encoder))).run(context(corpus, tokenizer, tmp_path / encoder))


def test_ids_past_the_vocabulary_are_a_user_error(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SavedTokenizer, "encode_arrays", lambda self, texts: [np.array([1, 400])] * len(texts))
    with pytest.raises(UserError, match=r"gives the id 400\n.*its vocabulary has 357 tokens"):
        Tokens(TokensStage(encoder=Encoder.tokenizers)).run(context(corpus, tokenizer, tmp_path))
