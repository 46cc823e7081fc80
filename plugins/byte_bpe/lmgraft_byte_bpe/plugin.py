"""The tokenizer part ``byte_bpe``: settings and strings, nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["ByteBPEConfig", "Pattern", "lmgraft_tokenizer"]

BYTES = 256
_SPECIAL = re.compile(r"<[^\s<>]*[A-Za-z0-9][^\s<>]*>")


class Pattern(Enum):
    """How text is split before merges are learnt.

    Only patterns that llama.cpp knows are offered: its GGUF reader holds a fixed list of them, and a model whose
    tokenizer splits by any other cannot be converted. That is better learnt before training than after it.
    """

    gpt2 = "gpt2"


@dataclass
class ByteBPEConfig(ComponentConfig):
    """Byte-level byte-pair encoding, trained on the corpus."""

    vocab_size: int = 4096
    """Tokens, special ones included; a small corpus may hold too few pairs and give fewer."""
    min_frequency: int = 2
    """Times a pair must occur to be merged."""
    pattern: Pattern = Pattern.gpt2
    """How text is split before merges are learnt; no token crosses a border."""
    end_token: str = "<|endoftext|>"
    """Ends a document, and begins the next one."""
    pad_token: str = "<|pad|>"
    """Fills batches; never the end token."""

    def check(self) -> Iterator[str]:
        least = BYTES + 2
        if self.vocab_size < least:
            yield f"vocab_size is {self.vocab_size}; {BYTES} bytes and 2 special tokens make at least {least}"
        if self.min_frequency < 1:
            yield f"min_frequency is {self.min_frequency}; it must be at least 1"
        for name in ("end_token", "pad_token"):
            token = getattr(self, name)
            if not _SPECIAL.fullmatch(token):
                # Mixed characters are split before merging, so no merge can spell the token.
                yield f"{name} is {token!r}; it must look like <|name|>, so that no ordinary text is encoded as it"
        if self.end_token == self.pad_token:
            yield f"end_token and pad_token are both {self.end_token!r}; a model could never learn to end"


@hookimpl
def lmgraft_tokenizer() -> list[Component]:
    return [
        Component(
            name="byte_bpe",
            target="lmgraft_byte_bpe.tokenizer:ByteBPE",
            config=ByteBPEConfig,
            summary="Byte-level BPE with GPT-2's split pattern, trained on the corpus",
        )
    ]
