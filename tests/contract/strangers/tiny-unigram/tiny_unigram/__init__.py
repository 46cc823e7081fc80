"""tiny_unigram for lmgraft: settings and the hook, in the package itself."""

from dataclasses import dataclass

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

BYTES = 256
SPECIAL = 2


@dataclass
class Config(ComponentConfig):
    """Pieces are learnt by counting the substrings of words."""

    entries: int = 1024
    """Entries of the vocabulary at most: 256 bytes, two special tokens, and pieces."""

    longest: int = 10
    """Bytes of a piece at most."""

    at_least: int = 3
    """Times that a piece occurs in the training text at least."""

    end: str = "</s>"
    """The special token that ends documents."""

    pad: str = "<pad>"
    """The special token that fills batches."""

    def check(self):
        if self.entries < BYTES + SPECIAL:
            yield f"entries is {self.entries}; 256 bytes and two special tokens need {BYTES + SPECIAL}"
        if self.longest < 2:
            yield f"longest is {self.longest}; a piece has two bytes at least"
        if self.at_least < 1:
            yield f"at_least is {self.at_least}; it must be at least 1"
        if not self.end or not self.pad or self.end == self.pad:
            yield f"end is {self.end!r} and pad is {self.pad!r}; they are two different tokens, neither empty"


@hookimpl
def lmgraft_tokenizer():
    return [
        Component(
            name="tiny_unigram",
            target="tiny_unigram.learn:TinyUnigram",
            config=Config,
            summary="Unigram over bytes, learnt by counting substrings",
            variants=("pocket",),
        )
    ]
