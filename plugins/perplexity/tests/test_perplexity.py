"""The evaluator on models whose score is known exactly, and the windows and compressors it is made of."""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import Evaluator, Score
from lmgraft.seams.parallelism import Sampling, Scored
from lmgraft_perplexity.compressors import compressors
from lmgraft_perplexity.perplexity import Perplexity
from lmgraft_perplexity.plugin import PerplexityConfig, Split, lmgraft_evaluator
from lmgraft_perplexity.windows import windows

END = 256
VOCAB = 257
Request = tuple[Sequence[int], Sequence[int]]


class Bytes:
    """One id a byte and an end token, which the text ``<end>`` is read as."""

    vocab_size = VOCAB
    end_id = END
    pad_id = END

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for number, piece in enumerate(text.split("<end>")):
            ids += [END] * (number > 0) + list(piece.encode())
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return bytes(token for token in ids if token != END).decode()

    def token_bytes(self) -> list[int]:
        return [1] * END + [0]

    def fingerprint(self) -> str:
        return "bytes"


@dataclass
class Uniform:
    """Every id is as likely as any other; remembers what it was asked."""

    context: int = 8
    calls: list[list[Request]] = field(default_factory=list)

    def score(self, requests: Sequence[Request]) -> list[Scored]:
        self.calls.append(list(requests))
        for prefix, continuation in requests:
            assert len(prefix) >= 1
            assert len(prefix) + len(continuation) <= self.context + 1
        return [Scored([self.logprob(token) for token in ids], [False] * len(ids)) for _, ids in requests]

    def logprob(self, token: int) -> float:
        return -math.log(VOCAB)

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        raise AssertionError("perplexity never generates")


class Skewed(Uniform):
    """An e costs one bit, a special token a fortune, everything else eight bits."""

    def logprob(self, token: int) -> float:
        return -math.log(2) * {ord("e"): 1.0, END: 1e6}.get(token, 8.0)


@dataclass
class Corpus:
    texts: list[str]
    split: str = "validation"

    def documents(self, split: str) -> Iterator[Document]:
        if split == self.split:
            yield from (Document(id=str(number), text=text) for number, text in enumerate(self.texts))


TEXTS = ["a short one", "", "and a longer one that takes several windows, é and 漢字 included", "x"]


def run(
    texts: list[str], handle: Uniform | None = None, limit: int | None = None, **settings: object
) -> dict[str, Score]:
    config = PerplexityConfig(**settings)  # type: ignore[arg-type]
    evaluator = Perplexity(config)
    assert isinstance(evaluator, Evaluator)
    scores = evaluator.run(handle or Uniform(), Bytes(), data=Corpus(texts, config.split.value), limit=limit)
    return {score.name: score for score in scores}


def test_a_uniform_model_has_its_vocabulary_as_perplexity() -> None:
    scores = run(TEXTS)
    text = "".join(TEXTS)
    size = len(text.encode())
    assert scores["perplexity"].value == pytest.approx(VOCAB, rel=1e-12)
    assert scores["bits_per_byte"].value == pytest.approx(math.log2(VOCAB), rel=1e-12)
    assert scores["bits_per_character"].value == pytest.approx(math.log2(VOCAB) * size / len(text), rel=1e-12)
    detail = scores["perplexity"].detail
    assert (detail["documents"], detail["tokens"], detail["bytes"], detail["characters"]) == (4, size, size, len(text))
    assert (detail["window"], detail["stride"], detail["split"]) == (8, 4, "validation")


def test_a_skewed_model_is_measured_token_by_token() -> None:
    scores = run(["eexx"], Skewed())
    assert scores["bits_per_byte"].value == pytest.approx((1 + 1 + 8 + 8) / 4)
    assert scores["perplexity"].value == pytest.approx(2 ** ((1 + 1 + 8 + 8) / 4))


def test_special_tokens_contribute_neither_bytes_nor_nats() -> None:
    plain, special = run(["eexx"], Skewed()), run(["ee<end>xx"], Skewed())
    for name in plain:
        assert special[name].value == pytest.approx(plain[name].value), name
    assert special["perplexity"].detail["tokens"] == 4
    assert special["perplexity"].detail["bytes"] == 4


@pytest.mark.parametrize("stride", [1, 2, 5, 8])
def test_stride_changes_windows_and_not_what_is_counted(stride: int) -> None:
    handle, usual = Uniform(), run(TEXTS)
    scores = run(TEXTS, handle, stride=stride)
    assert scores["perplexity"].detail["tokens"] == usual["perplexity"].detail["tokens"]
    assert scores["bits_per_byte"].value == pytest.approx(usual["bits_per_byte"].value)
    asked = [token for call in handle.calls for _, ids in call for token in ids]
    assert bytes(asked) == "".join(TEXTS).encode()


def test_the_batch_bounds_a_call_and_changes_no_score() -> None:
    one, many = Uniform(), Uniform()
    assert run(TEXTS, one, batch=1) == run(TEXTS, many, batch=100)
    assert {len(call) for call in one.calls} == {1}
    assert len(many.calls) == 1


@given(
    ids=st.lists(st.integers(0, 255), max_size=60),
    window=st.integers(1, 20),
    stride=st.integers(1, 20),
    end=st.just(END),
)
def test_windows_predict_each_token_once_with_all_the_context_that_fits(
    ids: list[int], window: int, stride: int, end: int
) -> None:
    stride = min(stride, window)
    pairs = list(windows(ids, end, window=window, stride=stride))
    assert [token for _, continuation in pairs for token in continuation] == ids
    done = 0
    for number, (prefix, continuation) in enumerate(pairs):
        assert 1 <= len(continuation) <= (window if number == 0 else stride)
        done += len(continuation)
        assert list(prefix) + list(continuation) == [end, *ids][: done + 1][-(window + 1) :]


def test_references_are_gzip_and_xz_of_the_very_same_text() -> None:
    texts = ["the same words again and again. " * 50, "other words: naïve 漢字. " * 40]
    scores = run(texts)
    data = "".join(texts).encode()
    by_gzip = len(gzip.compress(data, compresslevel=9, mtime=0))
    by_xz = len(lzma.compress(data, preset=9))
    assert scores["gzip_bits_per_byte"].value == 8 * by_gzip / len(data)
    assert scores["xz_bits_per_byte"].value == 8 * by_xz / len(data)
    assert scores["gzip_bits_per_byte"].reference
    assert scores["xz_bits_per_byte"].reference
    assert not scores["bits_per_byte"].reference
    assert not any(score.higher_is_better for score in scores.values())


def test_a_compressor_fed_in_pieces_counts_what_one_call_gives() -> None:
    pieces = [f"line {number}\n".encode() for number in range(2000)]
    whole = compressors()
    for piece in pieces:
        for compressed in whole.values():
            compressed.add(piece)
    assert whole["gzip"].finish() == len(gzip.compress(b"".join(pieces), compresslevel=9, mtime=0))
    assert whole["xz"].finish() == len(lzma.compress(b"".join(pieces), preset=9))


def test_limit_counts_documents() -> None:
    scores = run(["one", "two", "three"], limit=2)
    assert scores["perplexity"].detail["documents"] == 2
    assert scores["perplexity"].detail["bytes"] == 6


def test_an_empty_split_says_how_to_hold_text_out() -> None:
    with pytest.raises(UserError, match=r"corpus\.validation_bytes="):
        run([])
    with pytest.raises(UserError, match="nothing to score in the train split"):
        run(["", ""], split=Split.train)


@dataclass
class Sources(Corpus):
    """Documents as core names them: source, slash, id."""

    def documents(self, split: str) -> Iterator[Document]:
        for number, text in enumerate(self.texts):
            yield Document(id=f"{('en', 'zh', 'web')[number % 3]}/a/{number}", text=text)


def test_sources_choose_documents_before_the_limit() -> None:
    texts = ["one", "二", "three", "four", "五五", "six", "seven"]

    def of(*sources: str, limit: int | None = None) -> dict[str, Score]:
        evaluator = Perplexity(PerplexityConfig(sources=list(sources)))
        return {score.name: score for score in evaluator.run(Uniform(), Bytes(), data=Sources(texts), limit=limit)}

    assert of("zh")["bits_per_byte"].detail["bytes"] == len("二五五".encode())
    assert of("en", "web")["bits_per_byte"].detail["bytes"] == len("onethreefoursixseven")
    assert of("zh", "nowhere", limit=1)["bits_per_byte"].detail["documents"] == 1
    assert of("zh")["xz_bits_per_byte"].detail["sources"] == ["zh"]
    everything = of()
    assert everything["bits_per_byte"].detail["documents"] == 7
    assert "sources" not in everything["bits_per_byte"].detail
    with pytest.raises(UserError) as caught:
        of("ru")
    assert [line.strip() for line in str(caught.value).splitlines()] == [
        "evaluator perplexity: the validation split holds no documents of ru",
        "because: its documents are of en, web, zh",
        "try: name one of these in the evaluator's sources: [en]",
    ]


def test_bits_per_byte_is_of_the_text_whatever_the_tokenizer() -> None:
    """A model that gives a text the same probability through fewer tokens has the same bits per byte."""

    class Pairs(Bytes):
        """One id for two bytes."""

        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            return [list(text.encode()[::2]) for text in texts]

        def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
            raise AssertionError("the text is known")

    class Dear(Uniform):
        def logprob(self, token: int) -> float:
            return 2 * super().logprob(token)

    texts = ["an even number of bytes", "漢字"]
    texts = [text + " " * (len(text.encode()) % 2) for text in texts]
    single = run(texts)["bits_per_byte"].value
    found = Perplexity(PerplexityConfig()).run(Dear(), Pairs(), data=Corpus(texts), limit=None)
    scores = {score.name: score for score in found}
    assert scores["bits_per_byte"].value == pytest.approx(single)
    assert scores["perplexity"].value == pytest.approx(VOCAB**2)
    assert scores["bits_per_byte"].detail["tokens"] == sum(len(text.encode()) for text in texts) // 2


def recipe_of(config: PerplexityConfig, sources: dict[str, list[str]]) -> object:
    """An evaluate stage with this evaluator over corpora with these sources."""

    def part(path: str, slot: str, config: object) -> SimpleNamespace:
        return SimpleNamespace(path=path, slot=slot, config=config)

    stages = {
        name: SimpleNamespace(name=name, parts=[part("", f"sources.{key}", None) for key in keys], inputs={})
        for name, keys in sources.items()
    }
    own = part("evaluate.evaluators.zh", "evaluators.zh", config)
    stages["evaluate"] = SimpleNamespace(name="evaluate", parts=[own], inputs={"corpus": tuple(sources)})
    return SimpleNamespace(stage=stages.__getitem__)


def test_a_source_that_no_corpus_has_is_told_before_any_work() -> None:
    config = PerplexityConfig(sources=["zh", "chinese"])
    (problem,) = config.check_recipe(recipe_of(config, {"corpus": ["files", "docs"], "new": ["zh"]}), "evaluate")  # type: ignore[arg-type, misc]
    assert problem.fact == "evaluate.evaluators.zh.sources: there is no source 'chinese'"  # type: ignore[union-attr]
    assert problem.cause == "the sources of corpus, new are files, docs, zh"  # type: ignore[union-attr]
    assert problem.remedy == "evaluate.evaluators.zh.sources=[files]"  # type: ignore[union-attr]
    assert not list(config.check_recipe(recipe_of(config, {"other_kind": []}), "evaluate"))  # type: ignore[arg-type]
    assert not list(PerplexityConfig().check_recipe(recipe_of(config, {"a": ["b"]}), "evaluate"))  # type: ignore[arg-type]
    assert list(PerplexityConfig(sources=["a", "a"]).check()) == ["sources names a twice"]


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="the model's context is 8 tokens"):
        run(TEXTS, window=9)
    with pytest.raises(UserError, match="stride is 9"):
        run(TEXTS, stride=9)


def test_documents_without_text_are_named() -> None:
    class Messages(Corpus):
        def documents(self, split: str) -> Iterator[Document]:
            yield Document(id="chat-7", messages=[{"role": "user", "content": "hi"}])

    with pytest.raises(UserError, match="chat-7 has no text"):
        Perplexity(PerplexityConfig()).run(Uniform(), Bytes(), data=Messages([]), limit=None)


def test_check_yields_every_problem() -> None:
    assert list(PerplexityConfig().check()) == []
    assert len(list(PerplexityConfig(window=0, stride=0, batch=0).check())) == 3
    assert len(list(PerplexityConfig(window=4, stride=5).check())) == 1
    assert PerplexityConfig().needs() == {"columns:text", "split:validation"}


def test_the_light_module_offers_the_evaluator() -> None:
    (component,) = lmgraft_evaluator()
    assert component.name == "perplexity"
    assert len(component.summary) <= 72
