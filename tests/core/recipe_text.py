"""A recipe of all first-party seams to make mistakes in, and what every message must look like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lmgraft import compose
from lmgraft.errors import SHOWN, UserError
from lmgraft.recipe import Recipe, read

__all__ = ["RECIPE", "Wrong", "composed", "three_lines"]

RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files, python_docs]
  - filter@corpus.filters: [length, exact_dedup]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - parallelism@pretrain.parallelism: single
  - _self_
stages: [corpus, tokenizer, tokens, pretrain]
data: {path: null}
corpus:
  fallback: [python_docs]
  sources: {files: {path: "${data.path}"}}
  filters: {length: {min_chars: 200}}
pretrain:
  steps: 250
  optimizer: {lr: 2e-3}
"""


@dataclass(frozen=True)
class Wrong:
    """A mistake: what is typed or written, and what the message must say of it, where and how it is mended."""

    name: str
    overrides: tuple[str, ...] = ()
    old: str = ""
    new: str = ""
    """In the recipe's file ``new`` stands in place of ``old``."""
    fact: str = ""
    cause: str = ""
    remedy: str = ""

    def text(self) -> str:
        assert RECIPE.count(self.old) == 1 or not self.old
        return RECIPE.replace(self.old, self.new) if self.old else RECIPE + self.new


def composed(file: Path, *overrides: str) -> Recipe:
    ref = compose.resolve(str(file))
    return read(compose.compose(ref, overrides), ref.name)


#: What a library would say, and what only says that something is wrong.
_JARGON = re.compile(
    r"Hydra refuses|Hydra raised|object_type|full_key|__recipe__|__INSTALLED__|ConfigKeyError|ValidationError|"
    r"lmgraft run RECIPE|DictConfig|ListConfig|ConfigAttributeError|NoneType|<EOF>|traceback|\ba optimizer\b",
    re.IGNORECASE,
)


def three_lines(error: UserError) -> None:
    """Each problem is a fact, its cause and its remedy, a line each, in words of lmgraft's own."""
    lines = str(error).splitlines()
    if len(error.problems) > SHOWN:
        assert lines.pop() == f"... and {len(error.problems) - SHOWN} more of the same kind"
    assert len(lines) == 3 * min(len(error.problems), SHOWN)
    for number, line in enumerate(lines):
        start = ("", "  because: ", "  try: ")[number % 3]
        assert line.startswith(start)
        assert len(line) > len(start)
        assert not line[len(start) :].startswith(" ")
        assert not _JARGON.search(line), line
