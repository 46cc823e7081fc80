"""The tokenizer parts ``pretrained`` and ``extended``: settings and strings, nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.vocabulary import check_chat_template

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["ExtendedConfig", "PretrainedConfig", "Protect", "Scores", "lmgraft_tokenizer"]


class Scores(Enum):
    """Where new pieces rank among the old ones of a SentencePiece model."""

    last = "last"
    """Below all old ones, in the donor's order: old pieces are merged first, as ever, and new ones from them."""
    first = "first"
    """Above all old ones, in the donor's order."""
    zero = "zero"
    """All of them 0, as Chinese-LLaMA has it. Where two overlap, sentencepiece takes the left one, which tokenizer.json
    cannot express: there the order is the donor's, and some ids differ from sentencepiece's."""
    donor = "donor"
    """The donor's own log-probabilities: for a unigram base and a unigram donor."""


class Protect(Enum):
    """Text whose encoding an extension leaves alone."""

    nothing = "nothing"
    """Any piece may be added."""
    english = "english"
    """No piece is added that is English throughout: ASCII, and the marks of typeset text, U+2010 to U+2044."""


def _unequal(end: str | None, pad: str | None) -> Iterator[str]:
    if end is not None and end == pad:
        yield f"end_token and pad_token are both {end!r}; a model could never learn to end"
    for name, token in (("end_token", end), ("pad_token", pad)):
        if token == "":
            yield f"{name} is empty; name a token, or null for the tokenizer's own"


def _absent(part: str, **paths: str | None) -> Iterator[Problem]:
    """Paths that lead nowhere: told before the stages ahead of this one have worked."""
    for name, path in paths.items():
        if path and not os.path.exists(os.path.expanduser(path)):
            here = "" if os.path.isabs(path) else f" in {os.getcwd()}"
            cause = f"there is neither a file nor a folder of that name{here}"
            yield Problem(f"{part}.{name}: {path} does not exist", cause, "check the spelling, or give the full path")


@dataclass
class PretrainedConfig(ComponentConfig):
    """A vocabulary that others trained: a tokenizer.json or a SentencePiece model. The corpus is not read."""

    opens: ClassVar[tuple[str, ...]] = (".model", ".json", ".json.gz")
    """Files of which ``lmgraft tokens`` makes a tokenizer by this part."""

    path: str | None = execution(None)
    """A SentencePiece .model, a tokenizer.json (.gz too), a folder that holds one, as a model's folder does, or a run
    directory, of which its last model's is taken. What it holds is part of the key, and where it lies is not."""
    end_token: str | None = None
    """Ends a document; null takes the one that the files name. It must be a special token of the vocabulary."""
    pad_token: str | None = None
    """Fills batches, never the end token; null takes the one that the files name. One that is missing is appended, so
    LLaMA's 32,000 pieces become 32,001."""
    chat_template: str | None = None
    """What models that use this vocabulary write chats with: solar, alpaca, chatml, or Jinja source; null takes the
    files' own."""
    any_pattern: bool = False
    """Takes a byte-level tokenizer too whose split pattern is not GPT-2's, LLaMA-3's or Qwen-2's: a model with it
    cannot be exported to GGUF."""

    @classmethod
    def opening(cls, path: str) -> PretrainedConfig:
        """A model that is there is read whatever its pattern: only one that is trained is to leave as GGUF. Of a model
        folder all files count: what names its special tokens lies beside its vocabulary."""
        from lmgraft.artifacts.tokenizer import CONFIG

        file = Path(path)
        whole = file.stem == "tokenizer" and (file.parent / CONFIG).is_file()
        return cls(path=str(file.parent if whole else file), any_pattern=True)

    def check(self) -> Iterator[Problem | str]:
        if not self.path:
            yield "path is null; name a .model of SentencePiece, a tokenizer.json, or a folder with one"
        yield from _absent("pretrained", path=self.path)
        yield from _unequal(self.end_token, self.pad_token)
        yield from check_chat_template(self.chat_template)


@dataclass
class ExtendedConfig(ComponentConfig):
    """A vocabulary that is there, with pieces appended: a donor's that are missing, or new ones learnt from the corpus.
    Every old id keeps its piece."""

    base_path: str | None = execution(None)
    """The vocabulary that is extended, as a file or folder, where no stage of the recipe makes it (the stage's
    ``base``). What it holds is part of the key."""
    pieces: str | None = execution(None)
    """The donor: a SentencePiece .model for a SentencePiece base, a byte-level tokenizer.json for a byte-level one. Its
    pieces that are missing are appended in its order. What it holds is part of the key."""
    new_tokens: int = 0
    """Without a donor: pieces to learn from the corpus, by going on with byte-pair encoding where the base ended."""
    min_frequency: int = 2
    """Times a pair must occur to be merged into a new piece, where they are learnt."""
    scores: Scores = Scores.last
    """Where new pieces of a SentencePiece base rank: ``last``, ``first``, ``zero`` or ``donor``. Merges that are
    appended to a byte-level base come last."""
    protect: Protect = Protect.nothing
    """``english`` adds no piece of ASCII and typographic marks alone; ``nothing`` takes all."""
    protect_path: str | None = execution(None)
    """A text whose encoding must stay as it is, to the last token (a sample of the old language): pieces that would
    change it are not added. What it holds is part of the key."""
    end_token: str | None = None
    """Ends a document; null takes the base's."""
    pad_token: str | None = None
    """Fills batches; null takes the base's, or appends one."""
    chat_template: str | None = None
    """The template for chats: a name, or Jinja source; null takes the base's."""
    any_pattern: bool = False
    """Takes a byte-level base of any split pattern: a model with it cannot be exported to GGUF."""

    def check(self) -> Iterator[Problem | str]:
        if not self.pieces and not self.new_tokens:
            yield "new_tokens is 0 and pieces is null; say how many to learn, or name a donor"
        if self.pieces and self.new_tokens:
            yield f"new_tokens is {self.new_tokens} and pieces names a donor; set one of them"
        if self.new_tokens < 0:
            yield f"new_tokens is {self.new_tokens}; it cannot be negative"
        if self.min_frequency < 1:
            yield f"min_frequency is {self.min_frequency}; it must be at least 1"
        paths = {"base_path": self.base_path, "pieces": self.pieces, "protect_path": self.protect_path}
        yield from _absent("extended", **paths)
        yield from _unequal(self.end_token, self.pad_token)
        yield from check_chat_template(self.chat_template)

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        base = getattr(recipe.stage(stage).config, "base", None)
        if base is None and not self.base_path:
            cause = "a vocabulary is extended, and neither the stage's base nor base_path names one"
            yield Problem(f"{stage} extends nothing", cause, f"{stage}.base=STAGE, or {stage}.tokenizer.base_path=PATH")
        if base is not None and self.base_path:
            cause = f"{stage}.base is {base}, so there are two vocabularies to extend"
            yield Problem(f"{stage}.tokenizer.base_path is set", cause, f"{stage}.tokenizer.base_path=null")


@hookimpl
def lmgraft_tokenizer() -> list[Component]:
    return [
        Component(
            name="pretrained",
            target="lmgraft_vocabularies.pretrained:Pretrained",
            config=PretrainedConfig,
            summary="A tokenizer.json or a SentencePiece model that others trained",
        ),
        Component(
            name="extended",
            target="lmgraft_vocabularies.extended:Extended",
            config=ExtendedConfig,
            summary="A vocabulary with missing pieces appended; old ids stay",
        ),
    ]
