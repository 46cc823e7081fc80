"""The tokenizer parts ``bpe``, ``wordpiece`` and ``unigram``: settings and strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl
from lmgraft.vocabulary import check_chat_template, check_special_tokens

__all__ = ["BPEConfig", "UnigramConfig", "WordPieceConfig", "lmgraft_tokenizer"]

BYTES = 256


@dataclass
class SubwordConfig(ComponentConfig):
    """What the three have in common."""

    vocab_size: int = 8000
    """Tokens, special ones, bytes and single characters included; a small corpus may give fewer."""
    end_token: str = "</s>"
    """Ends a document, and begins the next one."""
    pad_token: str = "<pad>"
    """Fills batches; never the end token."""
    unknown_token: str = "<unk>"
    """Stands for text that no piece spells."""
    special_tokens: list[str] = field(default_factory=list)
    """Further special tokens (``<|im_start|>``), with ids after the three above. Text never gets them."""
    chat_template: str | None = None
    """What models that use this vocabulary write chats with: solar, alpaca, chatml, or the Jinja source of another."""

    def _fixed(self) -> int:
        """Ids that are given before anything is learnt."""
        return 3 + len(self.special_tokens)

    def check(self) -> Iterator[str]:
        if self.vocab_size <= self._fixed():
            yield (
                f"vocab_size is {self.vocab_size}; {self._fixed()} tokens are set (special ones and bytes), and at "
                "least one character comes to them"
            )
        named = {name: getattr(self, name) for name in ("end_token", "pad_token", "unknown_token")}
        yield from check_special_tokens(named, self.special_tokens)
        yield from check_chat_template(self.chat_template)


@dataclass
class SentencePieceConfig(SubwordConfig):
    """What ``bpe`` and ``unigram`` share: SentencePiece's own settings under its defaults."""

    coverage: float = 0.9995
    """Share of the text's characters that get a piece of their own, most frequent first; the others become bytes."""
    byte_fallback: bool = True
    """Spell a character without a piece by the bytes of its UTF-8 (256 pieces more); else it is unknown and lost."""
    split_digits: bool = True
    """Every digit is a piece by itself, as in LLaMA."""
    max_piece_length: int = 16
    """Characters of the longest piece."""

    def _fixed(self) -> int:
        return SubwordConfig._fixed(self) + BYTES * self.byte_fallback

    def check(self) -> Iterator[str]:
        yield from SubwordConfig.check(self)
        if not 0 < self.coverage <= 1:
            yield f"coverage is {self.coverage}; it is a share above 0 and at most 1"
        if self.max_piece_length < 1:
            yield f"max_piece_length is {self.max_piece_length}; it must be at least 1"


@dataclass
class BPEConfig(SentencePieceConfig):
    """Byte-pair encoding of characters, as SentencePiece and LLaMA-2 have it."""

    min_frequency: int = 2
    """Times a pair must occur to be merged."""

    def check(self) -> Iterator[str]:
        yield from SentencePieceConfig.check(self)
        if self.min_frequency < 1:
            yield f"min_frequency is {self.min_frequency}; it must be at least 1"


@dataclass
class UnigramConfig(SentencePieceConfig):
    """SentencePiece's unigram language model."""

    shrink: float = 0.75
    """Share of the pieces that each round of pruning keeps."""
    sub_iterations: int = 2
    """Steps of expectation maximisation before each round."""
    seed_pieces: int = 250_000
    """Pieces to begin with: the most frequent strings of the sample."""
    max_characters: int = 2_000_000
    """Characters of distinct words that are learnt from, the most frequent words first. It bounds memory: about 700
    bytes each, 1.4 GB with this many."""

    def check(self) -> Iterator[str]:
        yield from SentencePieceConfig.check(self)
        if not 0 < self.shrink < 1:
            yield f"shrink is {self.shrink}; it is a share between 0 and 1"
        for name in ("sub_iterations", "seed_pieces", "max_characters"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"


@dataclass
class WordPieceConfig(SubwordConfig):
    """WordPiece with BERT's way of splitting and normalising text. It does not give text back exactly."""

    end_token: str = "[SEP]"
    """Ends a document, and begins the next one."""
    pad_token: str = "[PAD]"
    """Fills batches; never the end token."""
    unknown_token: str = "[UNK]"
    """Stands for a whole word that pieces do not spell, or that is too long."""
    special_tokens: list[str] = field(default_factory=lambda: ["[CLS]", "[MASK]"])
    """Further special tokens, BERT's by default. Text never gets them."""
    min_frequency: int = 2
    """Times a pair must occur to be merged."""
    alphabet: int = 1000
    """Characters that get pieces of their own, most frequent first, as BERT's; a word with another one is unknown.
    Chinese needs some thousands."""
    lowercase: bool = False
    """Lower-case text and take accents off letters, as BERT-uncased; false is BERT-cased."""
    strip_accents: bool | None = None
    """Take accents off, whatever the case; null does as ``lowercase`` says."""
    split_chinese: bool = True
    """Every Chinese character is a word by itself."""
    clean: bool = True
    """Drop control characters and make every white space a space."""
    max_word_length: int = 100
    """Characters of the longest word that is cut into pieces; a longer one is unknown."""

    def check(self) -> Iterator[str]:
        yield from SubwordConfig.check(self)
        for name in ("min_frequency", "alphabet", "max_word_length"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"


@hookimpl
def lmgraft_tokenizer() -> list[Component]:
    return [
        Component(
            name="bpe",
            target="lmgraft_subword.bpe:BPE",
            config=BPEConfig,
            summary="BPE of characters with byte fallback, as SentencePiece and LLaMA-2",
        ),
        Component(
            name="wordpiece",
            target="lmgraft_subword.wordpiece:WordPiece",
            config=WordPieceConfig,
            summary="WordPiece as in BERT: words, ## within them, [UNK]; loses white space",
        ),
        Component(
            name="unigram",
            target="lmgraft_subword.unigram:Unigram",
            config=UnigramConfig,
            summary="SentencePiece's unigram language model with byte fallback",
        ),
    ]
