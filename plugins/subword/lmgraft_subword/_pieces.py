"""What ``bpe`` and ``unigram`` share: words, the pieces that are set, spaces as U+2581, the files.

Words are what SentencePiece's trainer lets pieces be made of (Kudo and Richardson 2018, arXiv 1808.06226; its options
``split_by_unicode_script``, ``split_by_number``, ``split_by_whitespace``, ``allow_whitespace_only_pieces``): letters,
with the space before them; Chinese characters and kana apart from other letters; numbers; other marks. Three things
differ: all other scripts count as one, which keeps accents that are characters of their own with their letters; runs of
spaces may become pieces even before a word, for code; and line feeds are text (SentencePiece reads lines).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmgraft.artifacts.tokenizer import CONFIG, FILE
from lmgraft.errors import Problem, UserError
from lmgraft.vocabulary import tokenizer_config
from tokenizers import AddedToken, Tokenizer, decoders

from lmgraft_subword.plugin import SentencePieceConfig, SubwordConfig

__all__ = ["SPACE", "add_special", "alphabet", "byte_pieces", "decoder", "refuse_small", "set_pieces", "words", "write"]

SPACE = "\u2581"
"""Stands for a space in pieces. In text it cannot be told from a space, with SentencePiece as here."""

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}"


def words(split_digits: bool) -> str:
    """The pattern whose matches are words; every character is in one."""
    number = r"\p{N}" if split_digits else r" ?\p{N}+"
    letters = rf" ?[{_CJK}]+| ?[[\p{{L}}\p{{M}}]&&[^{_CJK}]]+"
    return rf"\n+| +(?= )|{letters}|{number}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+|[^\S \n]+|\s"


def alphabet(characters: list[str]) -> list[str]:
    """``characters`` as pieces, in the order of their codes."""
    return sorted((SPACE if character == " " else character) for character in characters if character != SPACE)


def byte_pieces() -> list[str]:
    """The pieces of single bytes, as SentencePiece names them."""
    return [f"<0x{byte:02X}>" for byte in range(256)]


def set_pieces(config: SentencePieceConfig) -> list[str]:
    """The pieces that are not learnt, in the order of their ids: special tokens, then bytes."""
    special = [config.unknown_token, config.end_token, config.pad_token, *config.special_tokens]
    return special + (byte_pieces() if config.byte_fallback else [])


def refuse_small(part: str, config: SubwordConfig, fixed: int, characters: int, remedy: str) -> None:
    """Raises :class:`UserError` where ``fixed`` tokens and the alphabet leave no room."""
    needed = fixed + characters
    if config.vocab_size < needed:
        fact = f"tokenizer {part}: vocab_size is {config.vocab_size}, smaller than the alphabet"
        cause = f"{fixed} tokens are set, and {characters} pieces are the single characters of the text"
        raise UserError(Problem(fact, cause, f"vocab_size={needed} at the least, or {remedy}"))


def decoder(byte_fallback: bool) -> Any:
    """Pieces back to text, in the shape of LLaMA-2's file."""
    steps = [decoders.Replace(SPACE, " "), *([decoders.ByteFallback()] if byte_fallback else []), decoders.Fuse()]
    return decoders.Sequence(steps)


def add_special(tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Marks tokens of the vocabulary as special."""
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])


def write(tokenizer: Tokenizer, config: SubwordConfig, folder: Path, more: dict[str, str] | None = None) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / FILE))
    named: dict[str, Any] = {"unk_token": config.unknown_token, **(more or {})}
    if config.special_tokens:
        named["additional_special_tokens"] = list(config.special_tokens)
    content = tokenizer_config(config.end_token, config.pad_token, more=named, chat_template=config.chat_template)
    (folder / CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
