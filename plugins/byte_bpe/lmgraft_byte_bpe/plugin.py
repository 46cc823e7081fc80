"""The tokenizer part ``byte_bpe``: settings and strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl
from lmgraft.vocabulary import check_chat_template, check_special_tokens

__all__ = ["ByteBPEConfig", "Pattern", "lmgraft_tokenizer"]

BYTES = 256


class Pattern(Enum):
    """How text is split before merges are learnt.

    Only patterns that llama.cpp knows are offered: its GGUF reader holds a fixed list of them, and a model whose
    tokenizer splits by any other cannot be converted. That is better learnt before training than after it.
    """

    gpt2 = "gpt2"
    """GPT-2's: a word with the space before it; digits in runs of any length. GGUF's ``gpt-2``."""
    llama3 = "llama3"
    """LLaMA-3's (GPT-4's): digits by three, line feeds with the marks before them. GGUF's ``llama-bpe``."""
    qwen2 = "qwen2"
    """Qwen-2's: LLaMA-3's with each digit by itself. GGUF's ``qwen2``."""


@dataclass
class ByteBPEConfig(ComponentConfig):
    """Byte-level byte-pair encoding, trained on the corpus."""

    vocab_size: int = 4096
    """Tokens, special ones included; a small corpus may hold too few pairs and give fewer."""
    min_frequency: int = 2
    """Times a pair must occur to be merged."""
    pattern: Pattern = Pattern.gpt2
    """How text is split before merges are learnt; no token crosses a border."""
    max_token_length: int | None = None
    """Bytes of the longest token; null for no bound (long rules of dashes become tokens then)."""
    end_token: str = "<|endoftext|>"
    """Ends a document, and begins the next one."""
    pad_token: str = "<|pad|>"
    """Fills batches; never the end token."""
    special_tokens: list[str] = field(default_factory=list)
    """Further special tokens (``<|im_start|>``), with ids after the padding token's. Text never gets them."""
    chat_template: str | None = None
    """What models that use this vocabulary write chats with: solar, alpaca, chatml, or the Jinja source of another."""

    def check(self) -> Iterator[str]:
        special = 2 + len(self.special_tokens)
        if self.vocab_size < BYTES + special:
            least = f"{BYTES} bytes and {special} special tokens make at least {BYTES + special}"
            yield f"vocab_size is {self.vocab_size}; {least}"
        if self.min_frequency < 1:
            yield f"min_frequency is {self.min_frequency}; it must be at least 1"
        if self.max_token_length is not None and self.max_token_length < 1:
            yield f"max_token_length is {self.max_token_length}; it must be at least 1, or null"
        named = {"end_token": self.end_token, "pad_token": self.pad_token}
        yield from check_special_tokens(named, self.special_tokens)
        yield from check_chat_template(self.chat_template)


@hookimpl
def lmgraft_tokenizer() -> list[Component]:
    return [
        Component(
            name="byte_bpe",
            target="lmgraft_byte_bpe.tokenizer:ByteBPE",
            config=ByteBPEConfig,
            summary="Byte-level BPE with a split pattern of GPT-2, LLaMA-3 or Qwen-2",
        )
    ]
