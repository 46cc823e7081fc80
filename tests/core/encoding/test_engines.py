"""gigatoken beside the reference: equal ids on text that breaks things, its memory bounded, nothing loaded early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.encoding import engines
from lmgraft.encoding.checking import AWKWARD, Differs, Excerpt, compare
from lmgraft.encoding.engines import Gigatoken, Reference, Unusable
from lmgraft.testing.inputs import NASTY
from lmgraft_byte_bpe.plugin import ByteBPEConfig, Pattern
from lmgraft_byte_bpe.tokenizer import ByteBPE

pytest.importorskip("gigatoken")


@pytest.fixture(scope="module", params=list(Pattern), ids=str)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    part = ByteBPE(ByteBPEConfig(vocab_size=600, pattern=request.param))
    part.train([*AWKWARD, *NASTY] * 3)
    part.save(folder)
    loaded = tokenizers.load(folder)
    assert isinstance(loaded, SavedTokenizer)
    return loaded


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_its_ids_are_the_reference_s(saved: SavedTokenizer, texts: list[str]) -> None:
    if saved not in ENGINES:
        ENGINES[saved] = Gigatoken(saved)
    found = [Excerpt("train", n, text) for n, text in enumerate([*texts, *AWKWARD, *NASTY])]
    compare(Reference(saved), ENGINES[saved], found)


ENGINES: dict[SavedTokenizer, Gigatoken] = {}


def test_a_difference_says_where(saved: SavedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reference.encode_texts
    monkeypatch.setattr(Reference, "encode_texts", lambda self, texts: right(self, [text + "!" for text in texts]))
    with pytest.raises(Differs) as error:
        compare(Reference(saved), Gigatoken(saved), [Excerpt("train", 7, "a word, and 1 more")])
    assert (error.value.split, error.value.document) == ("train", 7)
    assert error.value.token == len(saved.encode_batch(["a word, and 1 more"])[0])


def test_what_it_remembers_is_thrown_away(saved: SavedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RENEW_BYTES", 1)
    made: list[object] = []
    right = engines._Instance.__init__

    def counted(self: engines._Instance, text: str) -> None:
        made.append(self)
        right(self, text)

    monkeypatch.setattr(engines._Instance, "__init__", counted)
    for limit, instances in ((1 << 60, 1), (0, 3)):
        made.clear()
        engine = Gigatoken(saved)
        engine._limit = limit
        for _ in range(3):
            compare(Reference(saved), engine, [Excerpt("train", 0, "some text of ours")])
        assert len(made) == instances


def test_an_id_past_the_vocabulary_is_none(saved: SavedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (np.array([saved.vocab_size], np.uint32), np.array([0, 1]))
    monkeypatch.setattr(engines._Instance, "encode", lambda self, batch: wrong)
    with pytest.raises(Unusable, match="it gave the id"):
        compare(Reference(saved), Gigatoken(saved), [Excerpt("train", 0, "a")])


def test_nothing_is_loaded_before_it_is_needed(tmp_path: Path) -> None:
    code = "import lmgraft.stages.tokens, sys; print({'awkward', 'gigatoken', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
