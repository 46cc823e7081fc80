"""The suite of tokenizers sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from letters_distribution import PART, letters
from lmgraft.errors import UserError
from lmgraft.testing import Nonconforming, NotApplicable, TokenizerSuite
from lmgraft.testing.running import run

TRUTH = "test_round_trip"
PRINT = "test_fingerprint_follows_the_vocabulary"
SAME = "test_training_is_deterministic"
RANGE = "test_ids_are_in_range"
SPECIAL = "test_special_tokens"
LOADED = "test_saved_equals_loaded"
BATCHES = "test_batch_size_is_irrelevant"
BYTES = "test_token_bytes"
EMPTY = "test_empty_text"

BATCH = "return [[index for letter in text for index in self.encode_letter(letter)] for text in texts]"
MADE = "        self.vocab_size = FIRST + len(letters)"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ('.decode("utf-8", "replace")', '.decode("utf-8", "ignore").strip()', TRUTH, "comes back as"),
    ("for letter in text for index", "for letter in text.lower() for index", TRUTH, "does not round-trip"),
    ("json.dumps(self.letters).encode()", "str(self.vocab_size).encode()", PRINT, "two trainings on other texts"),
    ("json.dumps(self.letters).encode()", "json.dumps(sorted(self.letters)).encode()", PRINT, "given to other pieces"),
    ("sha256(json.dumps(self.letters)", "sha256(repr(id(self))", PRINT, "one vocabulary two fingerprints"),
    (
        "common = sorted(counts, key=lambda letter: (-counts[letter], letter))",
        "import random; common = sorted(counts, key=lambda letter: (-counts[letter], random.random()))",
        SAME,
        "letters/vocabulary.json",
    ),
    (MADE, f"{MADE} - 4", RANGE, "vocab_size is"),
    ("[self.ids[letter]] if", "[float(self.ids[letter])] if", RANGE, "ids are ints"),
    ("return [0, 0, *(len", "return [0, *(len", RANGE, "token_bytes"),
    ("end_id, pad_id = 0, 1", "end_id, pad_id = 0, 0", SPECIAL, "are both|have one id"),
    (BATCH, BATCH.replace("return ", "return [[0] if text == END else ids for text, ids in zip(texts, ") + ")]",
     SPECIAL, "takes text for a special token"),
    ('special = b"" if skip_special else None', "special = None", SPECIAL, "should leave out"),
    ("return Ready(json.loads((folder / VOCABULARY).read_text()))", "return Ready(sorted(set(json.loads((folder / "
     "VOCABULARY).read_text())), key=hash))", LOADED, "in another process"),
    ("self.letters = common[", 'global KEPT; KEPT = common\n        self.letters = common[', LOADED, "KEPT"),
    (BATCH, "texts = sorted(texts, key=len)\n        " + BATCH, BATCHES, "other ids in batches"),
    ("len(self.bytes_of(index))", "1", BYTES, "bits per byte"),
    ("return [0, 0, *(len", "return [7, 5, *(len", BYTES, "end and padding have 7 and 5"),
    ("for letter in text for index in self.encode_letter(letter)]", "for letter in text for index in "
     "self.encode_letter(letter)] or [2]", EMPTY, "encodes"),
    (
        'json.dumps({"eos_token": END, "pad_token": PAD})',
        'json.dumps({"pad_token": PAD})',
        EMPTY,
        "names no eos_token",
    ),
    ('(folder / "tokenizer.json").write_text("{}")', "", EMPTY, "saved no tokenizer.json"),
]  # fmt: skip


@contextmanager
def suite(site, source: str = PART, **attributes: object) -> Iterator[TokenizerSuite]:
    site.install(letters(source))
    found = type("TestLetters", (TokenizerSuite,), {"component": "letters", **attributes})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


def test_a_sound_tokenizer_of_its_own_passes_every_check(site):
    site.install(letters())
    kind = type("TestLetters", (TokenizerSuite,), {"component": "letters", "settings": {"size": 40}})
    results = {result.check: result for result in run(kind)}
    failed = {check: result.fact for check, result in results.items() if result.state == "failed"}
    # The helpers that write wheels say nothing of versions.
    assert list(failed) == ["test_version_cap"]
    assert all(results[check].state == "passed" for _, _, check, _ in WRONG)


@pytest.mark.parametrize(("right", "wrong", "check", "word"), WRONG, ids=[word for *_, word in WRONG])
def test_a_wrong_tokenizer_is_seen(site, right, wrong, check, word):
    assert PART.count(right) == 1
    source = PART.replace(right, wrong)
    if "KEPT" in wrong:  # what training left in memory decides ids
        source = source.replace("def encode_letter(self, letter):", "def encode_letter(self, letter):\n        KEPT")
    with suite(site, source, settings={"size": 400}) as one, pytest.raises((Nonconforming, UserError), match=word):
        getattr(one, check)()


def test_one_that_loses_text_is_held_to_a_fixed_point(site):
    lossy = PART.replace("for letter in text for index", "for letter in text.lower() for index")
    with suite(site, lossy, lossless=False) as one:
        one.test_round_trip()
        with pytest.raises(NotApplicable):
            one.test_token_bytes()
    growing = PART.replace("def decode(self, ids, *, skip_special=False):", """\
def decode(self, ids, *, skip_special=False):
        ids = [*ids, 34]""")  # fmt: skip
    with suite(site, growing, lossless=False) as one, pytest.raises(Nonconforming, match="changes a text again"):
        one.test_round_trip()
