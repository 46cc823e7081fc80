"""The tokenizer inside a GGUF file, so that llama.cpp feeds a model the ids that lmgraft feeds it.

llama.cpp reads no rules, only a vocabulary and the *name* of the way in which text is split; ways that it has no name
for cannot be written, and are refused here. Facts: ``src/llama-vocab.cpp`` of llama.cpp.

What lmgraft puts before a text is the begin token here (``bos_token_id``, with ``add_bos_token``): the token that the
tokenizer puts there by itself, or ``bos_token_id`` of ``config.json``, which in lmgraft's own models is the end token
(a document follows the end of another one). Where the tokenizer puts none there and the model has a chat template,
chats come first: the begin token is the template's ``bos_token``, and none is added where ``tokenizer_config.json``
says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
from lmgraft.artifacts import checkpoint
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import Problem, UserError

from lmgraft_gguf import sentencepiece, splitting
from lmgraft_gguf.folder import chat_template, files, special, without_added_padding

__all__ = ["Vocabulary", "read"]

_TYPE = gguf.TokenType
#: In ``tokenizer_config.json``: the part that reads this tokenizer by code of its own.
_PART = "lmgraft_tokenizer"


@dataclass(slots=True)
class Vocabulary:
    """What is told of a tokenizer."""

    model: str
    """``gpt2`` for byte-level BPE, ``llama`` for SentencePiece's, ``t5`` for unigram."""
    pre: str
    """The way of splitting, in llama.cpp's words."""
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    """``bos``, ``eos``, ``eot``, ``pad``, ``unk``."""
    flags: dict[str, bool] = field(default_factory=dict)
    """Keys of ``tokenizer.ggml``."""
    table: bytes = b""
    """Unigram: SentencePiece's table of characters that are changed."""
    template: str | None = None

    def tell(self, writer: gguf.GGUFWriter) -> None:
        """The key-value pairs of the tokenizer, in a fixed order."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list([piece.encode("utf-8", "surrogatepass") for piece in self.tokens])
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.table:
            writer.add_precompiled_charsmap(self.table)
        for name, index in self.ids.items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", index)
        for name, flag in self.flags.items():
            writer.add_bool(f"tokenizer.ggml.{name}", flag)
        if self.template is not None:
            writer.add_chat_template(self.template)


def read(folder: Path, rows: int) -> Vocabulary:
    """The tokenizer of a model folder whose embedding has so many rows.

    :raises UserError: there is none, it is damaged, or llama.cpp has no name for its way of splitting.
    """
    content, config = files(folder)
    has_file = (folder / saved.FILE).is_file()
    if not has_file:
        content = without_added_padding(content, config, rows)
    try:
        return _read(folder, rows, content, config)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        fact = f"{folder / saved.FILE if has_file else f'the tokenizer of {folder}'} is no tokenizer that can be read"
        cause = f"a part of it is missing or of another kind ({type(error).__name__}: {error})"
        raise UserError(Problem(fact, cause, "fetch the model folder again")) from error


def _read(folder: Path, rows: int, content: Mapping[str, Any], config: Mapping[str, Any]) -> Vocabulary:
    if _PART in config:
        cause = f"it is read by the part {config[_PART]}, and llama.cpp has its own readers only"
        raise UserError(Problem(f"{folder}: its tokenizer cannot be written", cause, "train with tokenizer byte_bpe"))
    kind = str((content.get("model") or {}).get("type"))
    if kind == "BPE" and splitting.is_byte_level(content):
        found = _byte_level(folder, content)
    elif kind == "BPE":
        found = _pieces(sentencepiece.bpe(folder, content))
    elif kind == "Unigram":
        found = _pieces(sentencepiece.unigram(folder, content))
    else:
        cause = "llama.cpp's readers for decoders are byte-level BPE and SentencePiece's"
        if kind == "WordPiece":
            cause = "llama.cpp's reader of it (bert) puts a separator behind every prompt, as encoders want it"
        raise UserError(Problem(f"{folder}: its tokenizer is a {kind}", cause, "train with tokenizer byte_bpe or bpe"))
    _types(found, content)
    _pad(found, rows, folder)
    _distinct(found)
    found.template = chat_template(folder, config)
    _special(found, folder, config, saved.first_of(content, config))
    return found


def _byte_level(folder: Path, content: Mapping[str, Any]) -> Vocabulary:
    model = content["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens = _by_id(folder, content, model["vocab"])
    return Vocabulary("gpt2", splitting.pre_of(folder, content), tokens, [_TYPE.NORMAL] * len(tokens), merges=merges)


def _pieces(found: sentencepiece.Pieces) -> Vocabulary:
    return Vocabulary(
        found.model, "default", found.tokens, list(found.types), scores=found.scores, ids=dict(found.ids),
        flags=dict(found.flags), table=found.table,
    )  # fmt: skip


def _by_id(folder: Path, content: Mapping[str, Any], vocab: Mapping[str, int]) -> list[str]:
    """Pieces in the order of their ids, added tokens among them; names for ids that nothing has."""
    named = {int(index): piece for piece, index in vocab.items()}
    named |= {int(token["id"]): str(token["content"]) for token in content.get("added_tokens") or ()}
    if not named:
        fact = f"{folder / saved.FILE} holds no tokens"
        raise UserError(Problem(fact, "its vocabulary is empty", "make the tokenizer again"))
    return [named.get(index, f"[unused{index}]") for index in range(max(named) + 1)]


def _types(found: Vocabulary, content: Mapping[str, Any]) -> None:
    """Special tokens are control tokens, which text never gets; other added ones are found in text."""
    unused = {f"[unused{index}]" for index in range(len(found.tokens))}
    for index, piece in enumerate(found.tokens):
        if piece in unused:
            found.types[index] = _TYPE.UNUSED
    for token in content.get("added_tokens") or ():
        index = int(token["id"])
        if index < len(found.types) and found.types[index] != _TYPE.UNKNOWN:
            found.types[index] = _TYPE.CONTROL if token.get("special") else _TYPE.USER_DEFINED


def _pad(found: Vocabulary, rows: int, folder: Path) -> None:
    """Rows of the embedding that no token has get names, so that both lists are as long."""
    if len(found.tokens) > rows:
        fact = f"{folder}: the tokenizer has {len(found.tokens)} tokens and the model {rows} rows"
        raise UserError(Problem(fact, "an id without a row cannot be read", "take both from the same place"))
    for index in range(len(found.tokens), rows):
        found.tokens.append(f"[PAD{index}]")
        found.types.append(_TYPE.UNUSED)
        if found.scores:
            found.scores.append(-10_000.0)


def _distinct(found: Vocabulary) -> None:
    """llama.cpp stops where two tokens have one name, and it reads names as C does, up to a zero."""
    taken: set[str] = set()
    for index, piece in enumerate(found.tokens):
        if "\0" in piece or piece in taken:
            piece = f"[token{index}]"
            while piece in taken or piece in found.tokens:
                piece += "_"
            found.tokens[index], found.types[index] = piece, _TYPE.UNUSED
        taken.add(piece)


def _special(found: Vocabulary, folder: Path, config: Mapping[str, Any], first: int | None) -> None:
    """The ids that begin, end and fill texts, and the flags of what is put around them; ``first`` is what the tokenizer
    puts before a text."""
    index = {piece: number for number, piece in enumerate(found.tokens)}
    ends = _ends(folder, index.get(special(config, "eos_token") or ""))
    begin = _first(checkpoint.read_config(folder).get("bos_token_id"))
    begin = begin if begin is not None else ends[0]
    if found.template is not None:
        begin = index.get(special(config, "bos_token") or "", begin)
    found.ids |= {"bos": begin if first is None else first, "eos": ends[0]}
    if len(ends) > 1:
        found.ids["eot"] = ends[1]
    for name, key in (("padding", "pad_token"), ("unknown", "unk_token")):
        token = special(config, key)
        if token in index:
            found.ids[name] = index[token]
    silent = first is None and found.template is not None and config.get("add_bos_token") is False
    found.flags["add_bos_token"] = not silent
    found.flags["add_eos_token"] = False
    wrong = [number for number in found.ids.values() if not 0 <= number < len(found.tokens)]
    if wrong:
        fact = f"{folder}: the special id {wrong[0]} is beyond the {len(found.tokens)} tokens"
        raise UserError(Problem(fact, "config.json and tokenizer disagree", "take both from the same place"))


def _ends(folder: Path, named: int | None) -> list[int]:
    """The end token and whatever else ends an answer, as ``generation_config.json`` lists them."""
    told = checkpoint.read_generation_config(folder).get("eos_token_id")
    more = [number for number in (told if isinstance(told, Sequence) else [told]) if isinstance(number, int)]
    end = named if named is not None else _first(checkpoint.read_config(folder).get("eos_token_id"))
    ends = list(dict.fromkeys(([] if end is None else [end]) + more))
    if not ends:
        fact, cause = f"{folder} names no end token", "llama.cpp would go on for ever"
        raise UserError(Problem(fact, cause, 'add "eos_token" to tokenizer_config.json'))
    return ends


def _first(value: Any) -> int | None:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None
