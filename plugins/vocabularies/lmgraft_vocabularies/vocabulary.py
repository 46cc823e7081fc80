"""A vocabulary in memory: the content of tokenizer.json, its special tokens, and the SentencePiece model behind it.

It is read from any of the shapes in which vocabularies are handed on, and written as lmgraft's later stages, and
transformers, read it. Beside a tokenizer.json made of a SentencePiece model that model is written too
(``tokenizer.model``): it holds the scores, which extending it, and converting to GGUF, ask for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraft.artifacts.tokenizer import CONFIG, FILE
from lmgraft.errors import Problem, UserError

from lmgraft_vocabularies import beginning
from lmgraft_vocabularies.convert import added, to_json
from lmgraft_vocabularies.library import opened
from lmgraft_vocabularies.reading import find, read_json
from lmgraft_vocabularies.sentence_model import (
    MOST_PIECES,
    Piece,
    PieceType,
    SentenceModel,
    piece_bytes,
    read_model,
)
from lmgraft_vocabularies.spelt import keep_as_text

__all__ = ["MODEL", "Vocabulary", "read"]

MODEL = "tokenizer.model"
_ROLES = ("eos_token", "bos_token", "unk_token", "pad_token")
#: What ends documents, and fills batches, in files that do not say so.
_USUAL_ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<|im_end|>", "<eos>")
_USUAL_PADDING = ("<pad>", "<|pad|>", "[PAD]")


@dataclass
class Vocabulary:
    """What :func:`read` found."""

    path: Path
    content: dict[str, Any]
    """Of tokenizer.json."""
    model: SentenceModel | None = None
    roles: dict[str, str] = field(default_factory=dict)
    """``eos_token`` and its like -> the token."""
    more_special: list[str] = field(default_factory=list)
    chat_template: str | None = None
    add_bos: bool | None = None
    """``add_bos_token``: whether texts begin with ``bos_token``; the post-processor says the same."""

    def ids(self) -> dict[str, int]:
        """Every token, special ones included -> its id."""
        model = self.content["model"]
        found = model.get("vocab", {})
        ids = dict(found) if isinstance(found, dict) else {entry[0]: index for index, entry in enumerate(found)}
        return ids | {token["content"]: token["id"] for token in self.content.get("added_tokens") or []}

    def special(self) -> set[str]:
        """Tokens that text never gets."""
        return {token["content"] for token in self.content.get("added_tokens") or [] if token.get("special")}

    def name_roles(self, end: str | None, pad: str | None) -> None:
        """Settles the end token and the padding token; a padding token that is missing is appended.

        Raises :class:`~lmgraft.errors.UserError` where there is no end token, or ordinary text would hold one.
        """
        self.roles["eos_token"] = self._end(end)
        self.roles["pad_token"] = self._pad(pad)

    def _end(self, wanted: str | None) -> str:
        special = self.special()
        known = [token for token in _USUAL_ENDS if token in special]
        token = wanted or self.roles.get("eos_token") or (known[0] if known else None)
        shown = ", ".join(sorted(special)[:8]) or "none"
        if token is None:
            cause = "neither its files nor end_token says which token ends a document"
            raise UserError(Problem(f"{self.path} names no end token", cause, f"end_token=TOKEN; special are: {shown}"))
        if token not in special:
            cause = "text would be encoded as it" if token in self.ids() else "it is not in the vocabulary"
            fact = f"{self.path}: the end token {token!r} is no special token of it"
            raise UserError(Problem(fact, cause, f"end_token=TOKEN; special are: {shown}"))
        return token

    def _pad(self, wanted: str | None) -> str:
        end, special, ids = self.roles["eos_token"], self.special(), self.ids()
        if wanted is not None:
            if wanted == end:
                cause = "padding is masked, so a model could never learn to end"
                raise UserError(Problem(f"pad_token and the end token are both {end!r}", cause, "pad_token=null"))
            if wanted in ids and wanted not in special:
                cause = "text would be encoded as it"
                raise UserError(
                    Problem(f"{self.path}: the padding token {wanted!r} is an ordinary piece", cause, "pad_token=null")
                )
            return wanted if wanted in ids else self._append(wanted)
        for own in (self.roles.get("pad_token"), *_USUAL_PADDING):
            if own in special and own not in (end, self.roles.get("unk_token")):
                return str(own)
        names = ("<|pad|>", "<pad>") if end.startswith("<|") else ("<pad>", "<|pad|>")
        free = [name for name in (*names, *(f"<|pad_{number}|>" for number in range(len(ids)))) if name not in ids]
        return self._append(free[0])

    def _append(self, token: str) -> str:
        index = max(self.ids().values()) + 1
        self.content.setdefault("added_tokens", []).append(added(index, token))
        if self.model is not None and index == len(self.model.pieces):
            self.append_pieces([Piece(token, 0.0, PieceType.control)])
        elif self.model is not None:
            self.model = None  # ids would not agree
        return token

    def append_pieces(self, pieces: list[Piece]) -> None:
        """Puts pieces behind those of the SentencePiece model; the content of tokenizer.json stays."""
        assert self.model is not None
        self.model.data += b"".join(map(piece_bytes, pieces))
        self.model.pieces = [*self.model.pieces, *pieces]

    def write(self, folder: Path) -> None:
        """Writes the two files, and tokenizer.model where there is one. Text that spells a special token stays text.

        Raises :class:`~lmgraft.errors.UserError` where the library cannot read the vocabulary, or gives other ids.
        """
        ids = self.ids()
        tokenizer = keep_as_text(self.content, self.path)
        wrong = [token for token in self.special() if tokenizer.token_to_id(token) != ids[token]]
        if wrong:
            cause = f"the library gives it the id {tokenizer.token_to_id(wrong[0])}, and the file says {ids[wrong[0]]}"
            fact = f"{self.path}: the special token {wrong[0]!r} has two ids"
            raise UserError(Problem(fact, cause, "number tokens without gaps: pieces first, then added tokens"))
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / FILE, self.content)
        _write(folder / CONFIG, self._config())
        if self.model is not None:
            (folder / MODEL).write_bytes(self.model.data)

    def _config(self) -> dict[str, Any]:
        first = beginning.first_token(self.content, self.ids())
        roles = {"bos_token": first or self.roles["eos_token"], **self.roles}
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **roles}
        if self.add_bos is not None:
            config["add_bos_token"] = self.add_bos
        config["clean_up_tokenization_spaces"] = False
        if self.more_special:
            config["additional_special_tokens"] = self.more_special
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        return config


def read(path: Path) -> Vocabulary:
    """The vocabulary in a file, or in a folder.

    Raises :class:`~lmgraft.errors.UserError` where nothing is there that can be read.
    """
    files = find(path)
    model = None if files.model is None else read_model(files.model)
    if files.json is None:
        assert model is not None
        content = to_json(model)
    else:
        content = read_json(files.json)
        opened(content, files.json)
        _check_ids(Vocabulary(files.json, content).ids(), files.json)
        model = model if model is not None and _agrees(content, model) else None
    found = Vocabulary(path, content, model)
    if model is not None:
        found.roles = _roles_of(model)
    _read_config(found, files.config, files.template, model_alone=files.json is None)
    return found


def _check_ids(ids: Mapping[str, int], path: Path) -> None:
    """Tables of all ids are made later on, so one huge id in a stranger's file would take all memory."""
    highest = max(ids.values(), default=-1)
    if highest >= MOST_PIECES or not ids:
        fact = f"{path} has the id {highest:,}" if ids else f"{path} holds no token"
        cause = f"it names {len(ids):,} tokens, and no vocabulary has more than {MOST_PIECES:,}"
        raise UserError(Problem(fact, cause, "number tokens without gaps, or take another tokenizer"))


def _agrees(content: dict[str, Any], model: SentenceModel) -> bool:
    """Whether a .model that lies beside a tokenizer.json is the one that this was made of."""
    ids = Vocabulary(model.path, content, None).ids()
    return len(ids) >= len(model.pieces) and all(
        ids.get(piece.text) == index for index, piece in enumerate(model.pieces)
    )


def _roles_of(model: SentenceModel) -> dict[str, str]:
    named = {"eos_token": model.end_piece, "bos_token": model.begin_piece, "pad_token": model.pad_piece}
    found = {role: token for role, token in named.items() if model.named(token)}
    return {**found, "unk_token": model.unknown_piece}


def _read_config(found: Vocabulary, path: Path | None, template: Path | None, *, model_alone: bool) -> None:
    config = {} if path is None else read_json(path)
    ids = found.ids()
    for role in _ROLES:
        token = config.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token in ids:
            found.roles[role] = token
    found.add_bos = beginning.told_by(config, model_alone=model_alone)
    beginning.settle(found.content, found.add_bos, found.roles.get("bos_token"), ids)
    more = config.get("additional_special_tokens")
    listed = more if isinstance(more, list) else []
    tokens = [token.get("content") if isinstance(token, dict) else token for token in listed]
    found.more_special = [token for token in tokens if isinstance(token, str) and token in found.special()]
    text = config.get("chat_template")
    if template is not None:
        text = template.read_text(encoding="utf-8", errors="replace")
    if isinstance(text, str):
        found.chat_template = text


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":") if path.name == FILE else None)
    path.write_text(text + "\n", encoding="utf-8")
