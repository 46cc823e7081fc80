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
CHAT = "test_chat_template_is_kept"
EXTEND = "test_extending_keeps_ids"

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
    (
        "common = sorted(counts, key=lambda letter: (-counts[letter], letter))",
        "common = sorted(counts, key=lambda letter: (-counts[letter], hash(letter)))",
        SAME,
        "in another process",
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

#: A tokenizer that extends a base of bytes: its 256 pieces and two special tokens keep their ids.
EXTENDING = """
import json
import shutil

from tokenizers import AddedToken, Tokenizer


class Letters:
    def __init__(self, config):
        self.config = config

    def train(self, texts):
        raise AssertionError("it extends")

    def extend(self, base, texts):
        self.base = base
        self.letters = sorted({letter for text in texts for letter in text if ord(letter) > 0x3000})

    def save(self, folder):
        tokenizer = Tokenizer.from_file(str(self.base / "tokenizer.json"))
        tokenizer.add_tokens([AddedToken(letter, normalized=False) for letter in self.letters])
        tokenizer.save(str(folder / "tokenizer.json"))
        shutil.copyfile(self.base / "tokenizer_config.json", folder / "tokenizer_config.json")
"""


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


def test_one_that_extends_is_given_a_base(site):
    with suite(site, EXTENDING) as one:
        for check in (TRUTH, SAME, SPECIAL, BATCHES, BYTES, CHAT, EXTEND):
            getattr(one, check)()
            one.teardown_method()
            one.setup_method()


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ("        tokenizer.add_tokens(", "        base = json.loads(tokenizer.to_str())\n        vocab = base['model']"
         "['vocab']\n        vocab['a'], vocab['b'] = vocab['b'], vocab['a']\n        tokenizer = Tokenizer.from_str("
         "json.dumps(base))\n        tokenizer.add_tokens(", "to another token"),
        ("        self.base = base", "        self.base = base\n        (base / 'seen').write_text('x')",
         "changes the base"),
    ],
)  # fmt: skip
def test_one_that_moves_ids_or_writes_to_the_base_is_seen(site, right, wrong, word):
    assert EXTENDING.count(right) == 1
    with suite(site, EXTENDING.replace(right, wrong)) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, EXTEND)()


def test_one_that_loses_its_template_is_seen(site):
    forgetful = PART.replace(
        "        return Ready(json.loads((folder / VOCABULARY).read_text()))",
        "        config = json.loads((folder / 'tokenizer_config.json').read_text())\n"
        "        ready = Ready(json.loads((folder / VOCABULARY).read_text()))\n"
        "        ready.print = str(config)\n        return ready",
    ).replace("sha256(json.dumps(self.letters).encode())", "sha256(self.print.encode())")
    with suite(site, forgetful) as one, pytest.raises(Nonconforming, match="another fingerprint with a chat template"):
        getattr(one, CHAT)()


def test_the_token_for_what_is_unknown_may_be_lost(site):
    """Its name, encoded as text, is other text: it is left out where a lossy tokenizer is decoded."""
    unknowing = PART.replace(
        "return [self.ids[letter]] if letter in self.ids else [2 + byte for byte in letter.encode()]",
        "return [self.ids[letter]] if letter in self.ids else [1] if not letter.isascii() else [2 + ord(letter)]",
    )
    with suite(site, unknowing, lossless=False) as one:
        getattr(one, TRUTH)()
