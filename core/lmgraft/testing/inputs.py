"""What the kit shows to parts: texts, rows, a tokenizer of bytes, and a model whose every answer is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmgraft.seams.data_source import Document
from lmgraft.seams.parallelism import Sampling, Scored
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["NASTY", "UniformHandle", "byte_tokenizer", "columns_of", "documents", "texts"]

#: Text that breaks careless code: composed and decomposed letters, joined emoji, right to left, letters that change
#: their number when their case changes, white space of every kind, markup of special tokens.
NASTY = (
    "na\u00efve cafe\u0301 \u00c5ngstr\u00f6m",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1fa\U0001f1f3 \u2764\ufe0f \U0001f44d\U0001f3fd",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd 123 \u200f(abc)",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u0e2a\u0e27\u0e31\u0e2a",
    "Stra\u00dfe \ufb01ne \u0130stanbul \u0149 \u01c5",
    "  two  leading, three trailing   ",
    "tabs\tand\r\nline\u2028separators\u2029and\u00a0spaces\u3000here\u200b",
    "<|endoftext|> </s> [UNK] <pad> ### User:",
    "x" * 300,
    "\u0000\u0001\u007f\ufffd\ufeff",
    "0123456789 1,000,000.00 1e-9 \u0661\u0662\u0663",
    'def f(x):\n    return {"a": [1, 2]}  # comment\n',
)

_TEXT = """the of and to in is that it was for on are as with they at be this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over did down
only way find use may water long little very after words called just where most know"""


def texts(count: int, seed: int = 0) -> list[str]:
    """``count`` distinct texts of one to six sentences; every fourth one is taken from :data:`NASTY`, numbered."""
    rng, words, found = random.Random(seed), _TEXT.split(), []
    for number in range(count):
        sentences = [" ".join(rng.choices(words, k=rng.randint(4, 14))).capitalize() for _ in range(rng.randint(1, 6))]
        plain = ". ".join(sentences) + f". Text {number}."
        found.append(f"{NASTY[number // 4 % len(NASTY)]} {plain}" if number % 4 == 3 else plain)
    return found


def columns_of(needs: frozenset[str], default: str = "text") -> frozenset[str]:
    """The document columns among what a part needs, as ``needs()`` of its config says them (``"columns:text"``)."""
    named = frozenset(need.removeprefix("columns:") for need in needs if need.startswith("columns:"))
    return named or frozenset({default})


def documents(columns: frozenset[str], count: int, seed: int = 0) -> list[Document]:
    """``count`` documents with these columns: ``text``; ``messages``; ``prompt``, ``chosen`` and ``rejected``."""
    some = texts(4 * count, seed)
    return [_document(columns, number, *some[4 * number : 4 * number + 4]) for number in range(count)]


def _document(columns: frozenset[str], number: int, first: str, second: str, third: str, fourth: str) -> Document:
    name, group = f"kit:{number}", f"group {number % 7}"
    meta = {"number": number, "score": (number * 37 % 11) / 10, "source": "kit"}
    if columns & {"chosen", "rejected", "prompt"}:
        return Document(name, group=group, prompt=first, chosen=second, rejected=third, meta=meta)
    if "messages" in columns:
        said = [{"role": "user", "content": first}, {"role": "assistant", "content": second}]
        if number % 3 == 2:
            said += [{"role": "user", "content": third}, {"role": "assistant", "content": fourth}]
        return Document(name, group=group, messages=said, meta=meta)
    return Document(name, group=group, text=(first, second, third, fourth)[number % 4], meta=meta)


def byte_tokenizer(folder: Path) -> TextTokenizer:
    """A tokenizer of the 256 bytes and two special tokens, saved to ``folder`` and read from there."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from lmgraft.artifacts import tokenizer as saved

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|endoftext|>", "<|pad|>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / saved.FILE))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    (folder / saved.CONFIG).write_text(json.dumps(named), encoding="utf-8")
    return saved.load(folder)


class UniformHandle:
    """A model that knows nothing: every token has probability 1/V, none is ever the argmax; it writes id 0."""

    def __init__(self, vocab_size: int, context: int = 64) -> None:
        self.vocab_size = vocab_size
        self.context = context

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """Refuses what a real model would: an empty prefix, or more ids than the context takes."""
        for prefix, continuation in requests:
            if not prefix:
                raise AssertionError("the prefix of a request holds at least one id")
            if len(prefix) + len(continuation) > self.context + 1:
                raise AssertionError(
                    f"a request of {len(prefix)} + {len(continuation)} ids; the context takes {self.context} + 1"
                )
        each = -math.log(self.vocab_size)
        return [Scored([each] * len(answer), [False] * len(answer)) for _, answer in requests]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        room = self.context - len(prompt)
        yield from [0] * max(0, min(sampling.max_new_tokens, room))
