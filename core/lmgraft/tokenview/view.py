"""A saved tokenizer made ready to be looked at: its pieces, and a text cut into tokens with the place of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts._tokenizer_files import PART, read_json
from lmgraft.errors import Problem, UserError
from lmgraft.tokenview.alphabet import BYTE_LEVEL, PLAIN, spelling, spells
from lmgraft.tokenview.figures import Figures, blocks
from lmgraft.tokenview.shown import visible
from lmgraft.tokenview.spans import spans

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["SPECIAL", "TEXT", "UNKNOWN", "Token", "View", "open_file", "open_folder"]

TEXT, SPECIAL, UNKNOWN = "text", "special", "unknown"


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text."""

    id: int
    piece: str
    """As the vocabulary spells it."""
    start: int
    """Its first byte in the text's UTF-8; a character that is cut over several tokens has a byte or more in each."""
    stop: int
    """The byte behind its last; equal to ``start`` where it stands for nothing in the text."""
    kind: str = TEXT
    """``text``, ``special`` or ``unknown``."""


class View:
    """What looking needs of a tokenizer. An end or padding token is not needed for it."""

    def __init__(
        self,
        saved: TextTokenizer,
        name: str,
        library: Tokenizer | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self.saved = saved
        self.name = name
        self._library = library
        self._content = content or {}
        self.spelling = spelling(self._content) if library is not None else PLAIN

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""
        return self.saved.vocab_size

    @cached_property
    def pieces(self) -> list[str]:
        """The piece of each id, as the vocabulary spells it; an empty string where an id has none."""
        if self._library is None:
            return [self.saved.decode([index]) for index in range(self.vocab_size)]
        found = [""] * self.vocab_size
        for piece, index in self._library.get_vocab(with_added_tokens=True).items():
            found[index] = piece
        return found

    @cached_property
    def spelt(self) -> list[bytes]:
        """The bytes of text that each id stands for, as well as they are known."""
        if self._library is None:
            return [piece.encode("utf-8", "replace") for piece in self.pieces]
        spell = spells(self._content)
        found = [spell(piece) for piece in self.pieces]
        for index, token in self._library.get_added_tokens_decoder().items():
            found[index] = token.content.encode("utf-8", "replace")
        return found

    def shown(self, ids: Sequence[int]) -> list[str]:
        """What each id stands for, to be read by people: text made visible, special tokens by their name."""
        return [visible(self.spelt[index]) for index in ids]

    @cached_property
    def unknown(self) -> int | None:
        """The id of what the vocabulary cannot spell; None where it has none."""
        model = self._content.get("model") or {}
        if isinstance(model.get("unk_id"), int):
            return int(model["unk_id"])
        token = model.get("unk_token")
        return self._library.token_to_id(token) if self._library is not None and isinstance(token, str) else None

    @cached_property
    def special(self) -> frozenset[int]:
        """The ids of special tokens."""
        if self._library is None:
            return frozenset((self.saved.end_id, self.saved.pad_id))
        return frozenset(index for index, token in self._library.get_added_tokens_decoder().items() if token.special)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Ids of each text, as training sees them."""
        return tokenizers.encode_arrays(self.saved, texts)

    def count(self, text: str) -> Figures:
        """Counts of ``text``, encoded a block of lines at a time."""
        figures = Figures()
        for block in blocks(text):
            figures.add(block, self.encode([block])[0], self.unknown)
        return figures

    def take_special(self) -> None:
        """From now on special tokens that a text spells are taken as such. Training never does.

        Raises :class:`~lmgraft.errors.UserError` for a tokenizer that its own part reads.
        """
        if self._library is None:
            cause = "its part encodes by itself, and text is text to it"
            raise UserError(Problem(f"{self.name}: special tokens cannot be taken from a text", cause, "leave it out"))
        self._library.encode_special_tokens = False

    def cut(self, text: str) -> list[Token]:
        """``text`` as its tokens, in order.

        Needs about 500 bytes of memory a character: cut a long text's beginning.
        """
        data = text.encode()
        if self._library is None:
            ids = self.encode([text])[0].tolist()
            return self._tokens(ids, spans(data, self._own_pieces(ids, data), None))
        encoding = self._library.encode(text, add_special_tokens=False)
        # Where bytes of the text itself are left out (the vocabulary lacks them) the library's offsets are wrong.
        exact = self.spelling == BYTE_LEVEL and self._content.get("normalizer") is None
        offsets = None if exact else encoding.offsets
        return self._tokens(encoding.ids, spans(data, [self.spelt[index] for index in encoding.ids], offsets))

    def _own_pieces(self, ids: Sequence[int], data: bytes) -> list[bytes]:
        """What the ids of a part's own tokenizer stand for: by their sizes where these make up the text."""
        sizes = [self._sizes[index] for index in ids]
        if sum(sizes) != len(data):
            return [self.spelt[index] for index in ids]
        stops = list(accumulate(sizes, initial=0))
        return [data[start:stop] for start, stop in pairwise(stops)]

    @cached_property
    def _sizes(self) -> list[int]:
        return self.saved.token_bytes()

    def _tokens(self, ids: Sequence[int], places: Sequence[tuple[int, int]]) -> list[Token]:
        return [
            Token(index, self.pieces[index], *place, self._kind(index))
            for index, place in zip(ids, places, strict=True)
        ]

    def _kind(self, index: int) -> str:
        return UNKNOWN if index == self.unknown else SPECIAL if index in self.special else TEXT


def open_folder(folder: Path, name: str = "") -> View:
    """The tokenizer in a folder, with or without a ``tokenizer_config.json``.

    Raises :class:`~lmgraft.errors.UserError` where ``tokenizer.json`` is missing, broken or no tokenizer.
    """
    config = read_json(folder / tokenizers.CONFIG) if (folder / tokenizers.CONFIG).is_file() else {}
    if PART in config:
        return View(tokenizers.load(folder), name or str(folder))
    return open_file(folder / tokenizers.FILE, name or str(folder))


def open_file(file: Path, name: str = "") -> View:
    """A ``tokenizer.json`` by itself. Raises :class:`~lmgraft.errors.UserError` as :func:`open_folder` does."""
    from tokenizers import Tokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    content = read_json(file)
    try:
        library = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        cause = f"the tokenizers library says: {error}"
        remedy = "give a tokenizer.json of Hugging Face's tokenizers, or a folder that holds one"
        raise UserError(Problem(f"{file} is no tokenizer that can be read", cause, remedy)) from error
    if not library.get_vocab_size(with_added_tokens=True):
        cause = "its vocabulary is empty"
        raise UserError(Problem(f"{file} is no tokenizer that can be read", cause, "give one that has been trained"))
    return View(tokenizers.SavedTokenizer(library, content, -1, -1), name or str(file), library, content)
