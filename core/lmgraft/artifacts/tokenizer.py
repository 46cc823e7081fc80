"""A saved tokenizer: ``tokenizer.json`` beside ``tokenizer_config.json``, read the same way whichever part made it,
unless the part that made it reads its own files (``lmgraft.seams.tokenizer.LoadingTokenizer``).

Text is encoded as text: a document in which ``<|endoftext|>`` is written out gets the ids of those characters and
never the id that ends documents (``encode_special_tokens`` of the ``tokenizers`` library), so no document can end
another, or end early, by what it says.

Threads: the library's own pool does not survive a fork and is sized once a process. Encoding therefore runs in the
calling thread unless the user's ``TOKENIZERS_PARALLELISM`` says otherwise; who wants more brings threads
(``lmgraft.encoding`` does; the library lets go of the interpreter lock), and training borrows the pool through
:func:`library_threads`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lmgraft.artifacts._beginning import first_of
from lmgraft.artifacts._own_tokenizer import is_readable, load_by_part
from lmgraft.artifacts._pieces import LONGEST_WHOLE, PIECE, Cutter, cutter, pieces
from lmgraft.artifacts._token_bytes import piece_measure
from lmgraft.artifacts._tokenizer_files import CONFIG, FILE, PART, content, names, save
from lmgraft.artifacts._tokenizer_files import read_json as _json
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = [
    "CONFIG",
    "FILE",
    "PIECE",
    "SavedTokenizer",
    "copy",
    "encode_arrays",
    "first_of",
    "library_threads",
    "load",
    "names",
    "pieces",
    "save",
    "set_chat_template",
    "verify",
]

#: The parts of tokenizer.json that decide ids or text; the rest is padding and truncation, which we never use.
MEANING = ("model", "pre_tokenizer", "normalizer", "added_tokens", "post_processor", "decoder")

_SWITCH = "TOKENIZERS_PARALLELISM"


@contextmanager
def library_threads() -> Iterator[None]:
    """Lets the library use its own threads inside the block, unless the user's environment already decides.

    Afterwards they are switched off: a process that is forked later would inherit a pool without threads, and the
    library warns about every such fork.
    """
    chosen = os.environ.get(_SWITCH)
    if chosen is None:
        os.environ[_SWITCH] = "true"
    try:
        yield
    finally:
        if chosen is None:
            os.environ[_SWITCH] = "false"


class SavedTokenizer:
    """A tokenizer read from its files; satisfies :class:`lmgraft.seams.tokenizer.TextTokenizer`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        content: dict[str, Any],
        end_id: int,
        pad_id: int,
        chat_template: str | None = None,
        begin_id: int | None = None,
        first_id: int | None = None,
    ) -> None:
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._content = content
        self._end_id = end_id
        self._pad_id = pad_id
        self._begin_id = end_id if begin_id is None else begin_id
        self._chat_template = chat_template
        self._cutter = cutter(content)
        self._vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        held = first_id is not None and 0 <= first_id < self._vocab_size
        self._first_id = first_id if first_id is not None and held else end_id

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""
        return self._vocab_size

    @property
    def end_id(self) -> int:
        """Ends a document or an answer: ``eos_token`` of ``tokenizer_config.json``."""
        return self._end_id

    @property
    def begin_id(self) -> int:
        """What a chat template writes as ``bos_token``: that of ``tokenizer_config.json``, or else the end token."""
        return self._begin_id

    @property
    def first_id(self) -> int:
        """What a document begins with: the token that the tokenizer puts before a text by itself
        (:func:`first_of`), or else the end token."""
        return self._first_id

    @property
    def pad_id(self) -> int:
        """Fills batches: ``pad_token`` of ``tokenizer_config.json``; never the end token."""
        return self._pad_id

    @property
    def chat_template(self) -> str | None:
        """The Jinja source in ``tokenizer_config.json``, which models tuned on chats carry."""
        return self._chat_template

    @property
    def content(self) -> dict[str, Any]:
        """``tokenizer.json``, read. Not to be changed."""
        return self._content

    @property
    def cutter(self) -> Cutter | None:
        """How long text is cut without changing an id; None where no such place is known."""
        return self._cutter

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, no special tokens added and none recognised in the text."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """:meth:`encode_batch` in a seventh of the memory: int32 arrays.

        Text of any length, where it has places to cut (:mod:`lmgraft.artifacts._pieces`); 2**24 characters without one
        are a :class:`~lmgraft.errors.UserError`, since memory and time would have no bound.
        """
        parts = [list(self._cutter.pieces(text)) if self._cutter else [text] for text in texts]
        flat = [part for document in parts for part in document]
        if (longest := max(map(len, flat), default=0)) > LONGEST_WHOLE:
            raise UserError(_too_long(longest))
        encoded = self._tokenizer.encode_batch_fast(flat, add_special_tokens=False)
        arrays = iter([np.array(encoding.ids, dtype=np.int32) for encoding in encoded])
        documents = [[next(arrays) for _ in document] for document in parts]
        return [document[0] if len(document) == 1 else np.concatenate(document) for document in documents]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; exact for byte-level tokenizers. Bytes that are no UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def token_bytes(self) -> list[int]:
        """For each id the number of UTF-8 bytes it stands for; 0 for special tokens and for ids not in use."""
        measure = piece_measure(self._content)
        sizes = [0] * self._vocab_size
        for piece, index in self._tokenizer.get_vocab(with_added_tokens=False).items():
            sizes[index] = measure(piece)
        for index, token in self._tokenizer.get_added_tokens_decoder().items():
            sizes[index] = 0 if token.special else len(token.content.encode())
        return sizes

    def special_ids(self) -> dict[str, int]:
        """The special tokens as they are written, with their ids."""
        return {
            token.content: index for index, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        }

    def fingerprint(self) -> str:
        """sha256 over what decides ids or text in ``tokenizer.json``, whatever its layout or the library's version."""
        meaning = {key: self._content.get(key) for key in MEANING}
        model = dict(meaning["model"] or {})
        # Files of older versions hold a merge as "a b", newer ones as ["a", "b"].
        model["merges"] = [m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges") or []]
        meaning["model"] = model
        text = json.dumps(meaning, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def load(folder: Path) -> TextTokenizer:
    """Reads the tokenizer in ``folder``: by the part that its ``lmgraft_tokenizer`` names, else by the library.

    Raises :class:`~lmgraft.errors.UserError` where a file is missing or broken, where that part is not installed, and
    where there is no end token, no padding token, or one for both (the model would learn never to stop).
    """
    config = _json(folder / CONFIG)
    for key in ("eos_token", "pad_token"):
        if not isinstance(content(config.get(key)), str):
            raise UserError(_no_special(folder, config, key))
    loaded = load_by_part(folder, config) if PART in config else _by_library(folder, config)
    if loaded.end_id == loaded.pad_id:
        tokens = [content(config[key]) for key in ("pad_token", "eos_token")]
        fact = f"{folder / CONFIG}: pad_token and eos_token are both {tokens[1]!r}"
        if len(set(tokens)) > 1:
            fact = f"{folder / CONFIG}: pad_token {tokens[0]!r} and eos_token {tokens[1]!r} have one id"
        cause = "padding is masked, so a model could never learn to end"
        raise UserError(Problem(fact, cause, "give the tokenizer a padding token of its own"))
    return loaded


def _by_library(folder: Path, config: dict[str, Any]) -> SavedTokenizer:
    found = _json(folder / FILE)
    try:
        tokenizer = Tokenizer.from_file(str(folder / FILE))
        first = first_of(found, config)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics derive from it: a damaged table of characters
        raise UserError(Problem(f"{folder / FILE} cannot be read", str(error), "make the tokenizer again")) from error
    os.environ.setdefault(_SWITCH, "false")
    end_id = _special(tokenizer, config, "eos_token", folder)
    pad_id = _special(tokenizer, config, "pad_token", folder)
    template = config.get("chat_template")
    begin = content(config.get("bos_token"))
    begin_id = tokenizer.token_to_id(begin) if isinstance(begin, str) else None
    template = template if isinstance(template, str) else None
    return SavedTokenizer(tokenizer, found, end_id, pad_id, template, begin_id, first)


def encode_arrays(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """``encode_batch`` as int32 arrays, by the tokenizer's own ``encode_arrays`` where it has one."""
    own = getattr(tokenizer, "encode_arrays", None)
    return [np.asarray(ids, dtype=np.int32) for ids in (own or tokenizer.encode_batch)(texts)]


def _special(tokenizer: Tokenizer, config: dict[str, Any], key: str, folder: Path) -> int:
    index = tokenizer.token_to_id(content(config[key]))
    if index is None:
        raise UserError(_no_special(folder, config, key))
    return int(index)


def _too_long(longest: int) -> Problem:
    fact = f"a text has {longest:,} characters without a place at which it may be cut"
    cause = f"the tokenizer takes memory and time for all of it at once; {LONGEST_WHOLE:,} are the most"
    return Problem(fact, cause, "leave such text out; the filter c4 drops lines with a word over max_word_length")


def _no_special(folder: Path, config: dict[str, Any], key: str) -> Problem:
    token = content(config.get(key))
    fact = f"{folder / CONFIG}: {key} is {token!r}" if token else f"{folder / CONFIG} names no {key}"
    cause = f"{key} must be a token of {FILE}: documents end with eos_token, batches are filled with pad_token"
    return Problem(fact, cause, f'add "{key}" to {CONFIG}, and the token to {FILE}')


def copy(folder: Path, out: Path) -> None:
    """Copies the files of the tokenizer in ``folder``, those that its part added too, to ``out``."""
    for name in names(folder):
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(folder / name, place)
        except FileNotFoundError as error:
            cause = "it is a file of the tokenizer there"
            raise UserError(Problem(f"{folder / name} is missing", cause, "make the tokenizer again")) from error


def set_chat_template(folder: Path, template: str) -> None:
    """Writes the template into ``tokenizer_config.json``, where transformers and llama.cpp's converter look for it.

    Templates here begin with ``bos_token``; that is the end token, as in GPT-2, and is named too where nothing is.
    """
    path = folder / CONFIG
    config = _json(path)
    config["chat_template"] = template
    config.setdefault("bos_token", config["eos_token"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def verify(folder: Path) -> list[str]:
    """What is wrong with the tokenizer in ``folder``; empty where nothing is.

    That the part which reads it is not installed is no fault of the files; only that they are there can be seen then.
    """
    try:
        missing = [f"{folder / name} is missing" for name in names(folder) if not (folder / name).is_file()]
        if not missing and is_readable(folder):
            load(folder)
    except UserError as error:
        return [problem.fact for problem in error.problems]
    return missing
