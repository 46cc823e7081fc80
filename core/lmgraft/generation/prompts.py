"""A model folder to be asked: what text and conversations are as ids, and what ends an answer.

One place for ``generate``, ``chat`` and ``serve``, so that a model is asked and ends alike in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint
from lmgraft.chat import Messages, encode_prompt, source, stop_ids
from lmgraft.errors import Problem, UserError
from lmgraft.generation.text import Ending
from lmgraft.loading import load_tokenizer, model_folder, vocab_size
from lmgraft.seams.tokenizer import TextTokenizer, first_id

__all__ = ["Prompts", "end_ids", "prompts"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """How one model is asked."""

    folder: Path
    """The model folder."""
    tokenizer: TextTokenizer
    """Its tokenizer."""
    start: int
    """The id that a document begins with: the one that the tokenizer puts there. Where it puts none, ``bos_token_id``
    of ``config.json``, or the end token, as in training."""
    size: int
    """Ids that the model has a row for: those below this one. A tokenizer may have more, such as a padding token that
    was added to it alone."""
    template: str | None
    """The Jinja source that conversations are written with; None: it has none, and only continues text."""

    def text(self, prompt: str) -> list[int]:
        """The ids of a text that is to be continued: it stands at the start of a document.

        :raises UserError: the prompt is no text, or the model has no row for one of them.
        """
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            cause = f"U+{ord(prompt[error.start]):04X} is half a character, as bytes that are no UTF-8 are read"
            remedy = "give it in UTF-8, or take the character out"
            raise UserError(Problem("the prompt is no text", cause, remedy)) from error
        return self._checked([self.start, *self.tokenizer.encode_batch([prompt])[0]])

    def chat(self, messages: Messages) -> list[int]:
        """The ids of a conversation and of the opening of an answer.

        :raises UserError: there is no template, it cannot write these messages, or the model has no row for an id.
        """
        return self._checked(encode_prompt(messages, self.tokenizer, self.required()))

    def _checked(self, ids: list[int]) -> list[int]:
        if (highest := max(ids, default=0)) >= self.size:
            fact = f"the tokenizer beside the model gives the id {highest}"
            cause = f"the model has {self.size} rows of vocabulary"
            raise UserError(Problem(fact, cause, "put the model's own tokenizer beside it"))
        return ids

    def required(self) -> str:
        """The template. :raises UserError: there is none."""
        if self.template is None:
            fact = f"the model in {self.folder} has no chat template"
            cause = f"its {checkpoint.CONFIG} stands beside no chat_template: it was not tuned on chats"
            remedy = "--template solar, or name the model of an sft or dpo stage"
            raise UserError(Problem(fact, cause, remedy))
        return self.template

    def ending(self, *, chat: bool, strings: Sequence[str] = ()) -> Ending:
        """What ends a text, or an answer where ``chat``."""
        own = stop_ids(self.tokenizer, self.template if chat else None)
        return Ending(tuple(dict.fromkeys((*own, *end_ids(self.folder)))), tuple(strings))


def prompts(place: Path, template: str | None = None) -> Prompts:
    """The model of a folder or a run directory.

    ``template`` (a name such as ``solar``, or Jinja source) takes the place of the model's own.

    :raises UserError: there is no model or no tokenizer, or no template of that name.
    """
    folder = model_folder(place)
    tokenizer = load_tokenizer(folder)
    found = source(template) if template is not None else tokenizer.chat_template or _beside(folder)
    size = min(tokenizer.vocab_size, vocab_size(folder))
    return Prompts(folder, tokenizer, _start(folder, tokenizer, size), size, found)


def _start(folder: Path, tokenizer: TextTokenizer, size: int) -> int:
    first = first_id(tokenizer)
    if first != tokenizer.end_id:
        return first
    told = _object(folder / checkpoint.CONFIG).get("bos_token_id")
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < size else first


def end_ids(folder: Path) -> tuple[int, ...]:
    """``eos_token_id`` of ``generation_config.json``, one id or several, or of ``config.json`` where that names none.

    :raises UserError: they are no ids.
    """
    for name in (checkpoint.GENERATION_CONFIG, checkpoint.CONFIG):
        found = _object(folder / name).get("eos_token_id")
        if found is None:
            continue
        ids = found if isinstance(found, list) else [found]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids):
            cause = "it must be the id of a token, or a list of ids"
            raise UserError(Problem(f"{folder / name}: eos_token_id is {found!r}", cause, "write [2] or 2"))
        return tuple(ids)
    return ()


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(Problem(f"{file} cannot be read", str(error), "give a Hugging Face model folder")) from error
    return found


def _beside(folder: Path) -> str | None:
    """Where transformers writes a template since its version 4.43: a file of its own, or one of several by names."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            cause = f"{error}; it is the model's chat template"
            raise UserError(
                Problem(f"{file} cannot be read", cause, "write it as UTF-8, or --template solar")
            ) from error
    found = _object(folder / "tokenizer_config.json").get("chat_template")
    several = found if isinstance(found, list) else []
    named = {str(one.get("name")): one.get("template") for one in several if isinstance(one, dict)}
    default = named.get("default")
    return default if isinstance(default, str) else None
