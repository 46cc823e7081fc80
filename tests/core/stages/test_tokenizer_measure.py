"""What the stage ``tokenizer`` says of its sample, of every source and language, and of what changed against a base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import Artifact
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.component import Component
from lmgraft.errors import UserError
from lmgraft.stages import _tokenizer_sample
from lmgraft.stages._tokenizer_scripts import script
from lmgraft.stages.plugin import TokenizerStage
from lmgraft.stages.tokenizer import TrainTokenizer
from lmgraft.tokenview.view import open_folder
from lmgraft_byte_bpe.plugin import ByteBPEConfig, lmgraft_tokenizer
from lmgraft_byte_bpe.tokenizer import ByteBPE

ENGLISH = ["The quick brown fox jumps over the lazy dog", "and it rains in the old town", "", "while the dog sleeps"]
CHINESE = ["我们今天去公园看花", "今天的天气很好我们都很高兴", "公园里有很多人"]
RUSSIAN = ["мама мыла раму и пела", "в лесу родилась ёлочка"]


def lines(words: list[str], number: int) -> str:
    return "\n".join(words[(number + place) % len(words)] + (f" {number}" if place == 2 else "") for place in range(5))


def write_corpus(folder: Path, train: Mapping[str, list[str]], held_out: Mapping[str, list[str]] | None = None) -> Path:
    """Source -> its texts."""
    folder.mkdir(parents=True)
    sizes = {}
    for split, found in (("train", train), ("validation", held_out or {})):
        rows = [
            (source, text, f"{source}/{split}{n}") for source, texts in found.items() for n, text in enumerate(texts)
        ]
        sizes[split] = sum(len(text.encode()) for _, text, _ in rows)
        columns = {
            "id": [name for *_, name in rows],
            "text": [text for _, text, _ in rows],
            "source": [source for source, *_ in rows],
            "group": [name for *_, name in rows],
            "meta": ['{"language":"eo"}' if source == "known" else "{}" for source, *_ in rows],
        }
        if rows:
            table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    (folder / "funnel.json").write_text(json.dumps({"bytes": sizes}))
    return folder


class Appending(ByteBPE):
    """A part that extends: it appends merges that make "quick" of its letters, so that every old id stays."""

    def extend(self, base: Path, texts: Iterable[str]) -> None:
        self.seen = "".join(texts)
        self._base = base

    def save(self, folder: Path) -> None:
        content = json.loads((self._base / "tokenizer.json").read_text())
        vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
        for left, right in (("q", "u"), ("i", "c"), ("ic", "k"), ("qu", "ick")):
            if left + right not in vocabulary:
                vocabulary[left + right] = max(vocabulary.values()) + 1
                merges.append([left, right])
        (folder / "tokenizer.json").write_text(json.dumps(content))
        (folder / "tokenizer_config.json").write_bytes((self._base / "tokenizer_config.json").read_bytes())


@dataclass
class Context:
    out: Path
    inputs: Mapping[str, list[Artifact]]
    made: Any
    name: str = "tokenizer"

    def part(self, path: str) -> Any:
        return self.made

    def component(self, path: str) -> tuple[Component[Any], ByteBPEConfig]:
        (component,) = lmgraft_tokenizer()
        return component, ByteBPEConfig()

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        pass

    def alive(self) -> None:
        pass

    def file_digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()


def run(
    corpus: Path, out: Path, part: Any = None, base: Path | None = None, also: Path | None = None, **settings: Any
) -> dict[str, Any]:
    out.mkdir()
    inputs = {"corpus": [Artifact("corpus", corpus, "", "corpus")]}
    if also is not None:
        inputs["also_measured"] = [Artifact("corpus", also, "", "also")]
    if base is not None:
        inputs["base"] = [Artifact("tokenizer", base, "", "base")]
        settings["base"] = "base"
    stage = TrainTokenizer(TokenizerStage(**settings))
    stage.run(Context(out, inputs, part or ByteBPE(ByteBPEConfig(vocab_size=320))))  # type: ignore[arg-type]
    measure: dict[str, Any] = json.loads((out / "measure.json").read_text())
    return measure


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    train = {
        "en": [lines(ENGLISH, n) for n in range(200)],
        "zh": [lines(CHINESE, n) for n in range(60)],
        "known": [lines(RUSSIAN, n) for n in range(30)],
    }
    held_out = {"en": [lines(ENGLISH, n) for n in range(7, 27)], "zh": [lines(CHINESE, n) for n in range(5, 15)]}
    return write_corpus(tmp_path / "corpus", train, held_out)


def test_the_table_by_source_and_by_language_counts_what_was_measured(corpus: Path, tmp_path: Path) -> None:
    measure = run(corpus, tmp_path / "out")
    saved = tokenizers.load(tmp_path / "out")
    assert {name: row["split"] for name, row in measure["sources"].items()} == {
        "en": "validation",
        "zh": "validation",
        "known": "train",  # nothing of it was held out
    }
    texts = [lines(ENGLISH, n) for n in range(7, 27)]
    row = measure["sources"]["en"]
    assert row["documents"] == 20
    assert row["lines"] == sum(len(text.splitlines()) for text in texts)
    assert row["bytes"] == sum(len(text.encode()) for text in texts)
    assert row["tokens"] == sum(map(len, saved.encode_batch(texts)))
    assert row["bytes_per_token"] == pytest.approx(row["bytes"] / row["tokens"], abs=1e-6)
    assert row["tokens_per_word"] == pytest.approx(row["tokens"] / sum(len(text.split()) for text in texts), abs=1e-6)
    assert row["unknown"] == 0
    # The source "known" says its language itself, the script of its letters notwithstanding.
    assert set(measure["languages"]) == {"Latin", "Han", "eo"}
    assert measure["languages"]["Han"]["tokens"] == measure["sources"]["zh"]["tokens"]
    assert measure["tokens"] == sum(row["tokens"] for row in measure["sources"].values())
    assert not (tmp_path / "out" / "changed.jsonl").exists()


def test_pieces_longest_unused_and_most_frequent(corpus: Path, tmp_path: Path) -> None:
    found = run(corpus, tmp_path / "out")["pieces"]
    saved = tokenizers.load(tmp_path / "out")
    used = {index for part in json.loads((tmp_path / "out/look.json").read_text())["passages"]
            for index, *_ in part["tokens"]}  # fmt: skip
    unused = {index for index, *_ in found["unused_first"]}
    assert not used & unused
    assert found["unused"] == len(unused) < found["of"]
    assert [size for *_, size in found["longest"]] == sorted((size for *_, size in found["longest"]), reverse=True)
    sizes = saved.token_bytes()
    assert all(sizes[index] == size for index, _, size in found["longest"])
    assert found["top"][0][2] >= found["top"][-1][2] > 0


def test_measure_bytes_bounds_what_is_measured_of_each_source(tmp_path: Path) -> None:
    folder = write_corpus(
        tmp_path / "corpus",
        {"big": [lines(ENGLISH, n) for n in range(3000)], "small": [lines(CHINESE, n) for n in range(5)]},
    )
    whole = run(folder, tmp_path / "whole", measure_bytes=1 << 30)
    part = run(folder, tmp_path / "part", measure_bytes=100_000)
    assert whole["sources"]["big"]["documents"] == 3000
    assert 0.7 < part["sources"]["big"]["bytes"] / 100_000 < 1.3
    assert part["sources"]["small"] == whole["sources"]["small"]


def test_the_sample_is_documented_and_every_source_is_in_it(tmp_path: Path) -> None:
    train = {"big": [lines(ENGLISH, n) for n in range(2000)], "tiny": [CHINESE[0]]}
    folder = write_corpus(tmp_path / "corpus", train)
    run(folder, tmp_path / "out", sample_bytes=60_000)
    told = json.loads((tmp_path / "out/sample.json").read_text())
    assert told["sources"]["tiny"] == {
        "bytes": len(CHINESE[0].encode()), "pieces": 1, "of_bytes": len(CHINESE[0].encode()), "of_documents": 1,
    }  # fmt: skip
    assert told["sources"]["big"]["of_documents"] == 2000
    assert 0.7 < told["bytes"] / 60_000 < 1.3
    assert told["of_bytes"] == json.loads((folder / "funnel.json").read_text())["bytes"]["train"]
    assert "blake2b" in told["rule"]


def test_the_same_corpus_gives_the_same_bytes_with_a_base_too(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base")
    for name in ("a", "b"):
        run(corpus, tmp_path / name, Appending(ByteBPEConfig()), tmp_path / "base", measure_bytes=500)
    names = {"tokenizer.json", "tokenizer_config.json", "measure.json", "sample.json", "look.json", "changed.jsonl"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_an_extension_starts_from_the_base_and_every_changed_line_is_listed(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", ByteBPE(ByteBPEConfig(vocab_size=262)))
    part = Appending(ByteBPEConfig())
    measure = run(corpus, tmp_path / "out", part, tmp_path / "base", measure_bytes=1 << 30)
    assert "quick" in part.seen  # extend was called, with the sample
    assert measure["base"]["kept"] is True
    assert measure["base"]["compared"] == "ids"
    before, after = tokenizers.load(tmp_path / "base"), tokenizers.load(tmp_path / "out")
    expected = []
    for source, words in (("en", ENGLISH), ("zh", CHINESE)):
        for n in range(7, 27) if source == "en" else range(5, 15):
            for number, line in enumerate(lines(words, n).split("\n"), 1):
                old, new = before.encode_batch([line])[0], after.encode_batch([line])[0]
                if old != new:
                    place = n - (7 if source == "en" else 5)
                    expected.append((source, f"{source}/validation{place}", number))
    rows = [json.loads(line) for line in (tmp_path / "out/changed.jsonl").read_text().splitlines()]
    assert [(row["source"], row["document"], row["line"]) for row in rows] == expected
    assert expected
    assert all(row["before"] != row["after"] and "quick" in "".join(row["after"]) for row in rows)
    english = measure["sources"]["en"]["changed"]
    held_out = sum(len(lines(ENGLISH, n).splitlines()) for n in range(7, 27))
    assert english["lines"] == {"changed": len(rows), "of": held_out, "share": round(len(rows) / held_out, 6)}
    assert english["documents"]["changed"] == len({row["document"] for row in rows})
    for name in ("zh", "known"):
        assert measure["sources"][name]["changed"]["lines"]["changed"] == 0
        assert measure["sources"][name]["changed"]["bytes"]["of"] > 0
    assert measure["languages"]["Latin"]["changed"]["lines"]["changed"] == len(rows)
    stage = TrainTokenizer(TokenizerStage(base="base"))
    told = dict(stage.summary(Artifact("tokenizer", tmp_path / "out", "")))
    assert told["lines changed against base"] == f"{len(rows)} of {measure['changed']['lines']['of']}"


def test_changed_lines_of_a_long_document_have_its_line_numbers(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", ByteBPE(ByteBPEConfig(vocab_size=262)))
    book = ["and it rains in the old town"] * 9000
    book[3] = book[8000] = "the quick one"
    folder = write_corpus(tmp_path / "long", {"en": ["\n".join(book)]})
    run(folder, tmp_path / "out", Appending(ByteBPEConfig()), tmp_path / "base")
    rows = [json.loads(line) for line in (tmp_path / "out/changed.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rows] == [4, 8001]


def test_any_other_part_is_only_compared_with_the_base(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "base", ByteBPE(ByteBPEConfig(vocab_size=262)))
    measure = run(corpus, tmp_path / "out", None, tmp_path / "base")
    plain = tmp_path / "plain"
    run(corpus, plain)
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()
    assert measure["base"]["tokens"] > measure["tokens"]
    assert measure["sources"]["en"]["base"]["tokens"] > measure["sources"]["en"]["tokens"]


def test_a_further_corpus_is_measured_and_not_learnt_from(corpus: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", {"old": [lines(RUSSIAN, n) for n in range(30, 60)]})
    run(corpus, tmp_path / "base", ByteBPE(ByteBPEConfig(vocab_size=262)))
    alone = run(corpus, tmp_path / "alone", None, tmp_path / "base")
    measure = run(corpus, tmp_path / "out", None, tmp_path / "base", other)
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tmp_path / "alone/tokenizer.json").read_bytes()
    assert {name: row for name, row in measure["sources"].items() if name != "old"} == alone["sources"]
    assert measure["sources"]["old"]["changed"]["lines"]["of"] == sum(
        len(lines(RUSSIAN, n).splitlines()) for n in range(30, 60)
    )
    told = (tmp_path / "out/changed.jsonl").read_text(encoding="utf-8")
    assert '"source": "old"' in told


def test_a_word_without_an_end_is_refused_by_the_documents_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tokenizer_sample, "LONGEST_WORD", 5000)
    fine = "".join(f"{word}，" for word in CHINESE * 2000)  # no space in it, and no long word either
    folder = write_corpus(tmp_path / "corpus", {"s": [lines(ENGLISH, 1), fine]})
    run(folder, tmp_path / "fine")
    for word, told in (("x" * 5001, "5,001"), ("\u6f22" * 1700, "5,100")):  # bytes, whatever the script
        folder = write_corpus(tmp_path / told, {"s": [lines(ENGLISH, 1), f"a b {word}"]})
        with pytest.raises(UserError) as caught:
            run(folder, tmp_path / f"out{told}")
        (problem,) = caught.value.problems
        assert "s/train1" in problem.fact
        assert told in problem.cause


class Reading(ByteBPE):
    """A part that reads a file which its settings would name."""

    def __init__(self, path: Path) -> None:
        super().__init__(ByteBPEConfig())
        self.path = path

    def inputs(self) -> Mapping[str, str]:
        return {"vocabulary": str(self.path)}


def test_what_a_part_reads_is_in_the_key_by_its_content(tmp_path: Path) -> None:
    def identity(part: Any) -> Mapping[str, Any]:
        context = Context(tmp_path, {}, part)
        return TrainTokenizer(TokenizerStage()).identity(context)  # type: ignore[arg-type]

    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    first = identity(Reading(tmp_path / "a"))
    assert first["inputs"]["vocabulary"] == hashlib.sha256(b"one").hexdigest()
    assert identity(Reading(tmp_path / "b")) == first
    (tmp_path / "b").write_text("two")
    assert identity(Reading(tmp_path / "b")) != first
    assert identity(ByteBPE(ByteBPEConfig())) == {}
    with pytest.raises(UserError, match="cannot be read"):
        identity(Reading(tmp_path / "missing"))


def test_passages_are_cut_as_the_tokenizer_cuts_them(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    view = open_folder(tmp_path / "out")
    passages = json.loads((tmp_path / "out/look.json").read_text())["passages"]
    assert {part["source"] for part in passages} == {"en", "zh", "known"}
    for part in passages:
        assert len(part["text"]) <= 600
        data = part["text"].encode()
        assert b"".join(data[start:stop] for _, _, start, stop, *_ in part["tokens"]) == data
        assert [index for index, *_ in part["tokens"]] == view.encode([part["text"]])[0].tolist()


@pytest.mark.parametrize(
    ("text", "name"),
    [("hello wörld", "Latin"), ("Привет, world и мир", "Cyrillic"),
     ("汉字abc和字", "Han"), ("ひらがなカタカナ漢字", "Kana"),
     ("한국어", "Hangul"), ("𝕏𝕐", "Latin"), ("ｆｕｌｌ", "Latin"), ("1, 2!", "no letters"), ("", "no letters")],
)  # fmt: skip
def test_scripts(text: str, name: str) -> None:
    assert script(text) == name
