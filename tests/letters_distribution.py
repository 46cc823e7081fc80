"""A third party's tokenizer that Hugging Face's library cannot express: letters, and bytes for letters never seen."""

from __future__ import annotations

from third_party import Distribution, component, module

__all__ = ["LETTERS", "PART", "letters"]

PART = '''\
import hashlib
import json
from collections import Counter

END, PAD = "<|end|>", "<|pad|>"
VOCABULARY = "letters/vocabulary.json"
FIRST = 2 + 256


class Letters:
    """Ids: the end token 0, the padding token 1, the 256 bytes, then letters from the most frequent one on."""

    def __init__(self, config):
        self.config = config
        self.letters = []

    def train(self, texts):
        counts = Counter(letter for text in texts for letter in text)
        common = sorted(counts, key=lambda letter: (-counts[letter], letter))
        self.letters = common[: self.config.size]

    def save(self, folder):
        (folder / "letters").mkdir(parents=True)
        (folder / VOCABULARY).write_text(json.dumps(self.letters))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "pad_token": PAD}))

    def load(self, folder):
        return Ready(json.loads((folder / VOCABULARY).read_text()))


class Ready:
    end_id, pad_id = 0, 1

    def __init__(self, letters):
        self.letters = letters
        self.ids = {letter: index for index, letter in enumerate(letters, FIRST)}
        self.vocab_size = FIRST + len(letters)

    def encode_batch(self, texts):
        return [[index for letter in text for index in self.encode_letter(letter)] for text in texts]

    def encode_letter(self, letter):
        return [self.ids[letter]] if letter in self.ids else [2 + byte for byte in letter.encode()]

    def decode(self, ids, *, skip_special=False):
        special = b"" if skip_special else None
        return b"".join(self.bytes_of(index, special) for index in ids).decode("utf-8", "replace")

    def bytes_of(self, index, special=None):
        if index < 2:
            return (END, PAD)[index].encode() if special is None else special
        return bytes([index - 2]) if index < FIRST else self.letters[index - FIRST].encode()

    def token_bytes(self):
        return [0, 0, *(len(self.bytes_of(index)) for index in range(2, self.vocab_size))]

    def fingerprint(self):
        return hashlib.sha256(json.dumps(self.letters).encode()).hexdigest()
'''

LETTERS = "letters"


def letters(part: str = PART) -> Distribution:
    """The distribution, with other source for its part where one is given."""
    size = '\n@dataclass\nclass Letters(Config):\n    size: int = 60\n    """Letters with an id of their own."""\n'
    files = {
        "letters_tokenizer/__init__.py": "",
        "letters_tokenizer/plugin.py": module(
            "tokenizer", component(LETTERS, "letters_tokenizer.part:Letters", "Letters"), before=size
        ),
        "letters_tokenizer/part.py": part,
    }
    return Distribution("letters-tokenizer", files, {"tokenizer": {LETTERS: "letters_tokenizer.plugin"}})
