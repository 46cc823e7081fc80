"""Exporter ``hf``: a clean Hugging Face folder, as transformers loads it, with a model card.

Weights are copied from file to file, or rounded block by block, so memory stays small whatever the model's size. The
folder holds what belongs to the model and nothing else: weights, ``config.json``, ``generation_config.json`` with every
id that ends an answer, the tokenizer's files, the chat template where transformers 5 looks for it
(``chat_template.jinja``) and where transformers 4 and lmgraft do (``tokenizer_config.json``), and ``README.md``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmgraft import chat
from lmgraft.artifacts import checkpoint, streaming, tokenizer
from lmgraft.artifacts.streaming import Computed, Piece
from lmgraft.errors import Problem, UserError
from lmgraft.seams.exporter import Known

from lmgraft_hf.card import card
from lmgraft_hf.plugin import HuggingFaceConfig

__all__ = ["HuggingFace"]

TEMPLATE = "chat_template.jinja"
#: Beside the two files that lmgraft reads: what others' tokenizers consist of.
_OTHERS = ("special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt", TEMPLATE)
_WORDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_FLOATS = ("F64", *_WORDS.values())


class HuggingFace:
    """Implements :class:`lmgraft.seams.exporter.InformedExporter`."""

    def __init__(self, config: HuggingFaceConfig) -> None:
        self.config = config

    def export(self, model: Path, out: Path) -> None:
        """Writes the folder, its card with what the model itself tells."""
        self.export_informed(model, out, Known())

    def export_informed(
        self, model: Path, out: Path, known: Known, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """The same with all that is known in the card.

        :raises UserError: the folder is broken, or a weight is too large for 16 bits.
        """
        checkpoint.verify(model)
        config = self._config(model)
        generation = _generation(model, config)
        try:
            streaming.write(
                out, self._plan(model), config, generation, progress=progress, shard_bytes=self.config.shard_mb * 10**6
            )
        except UserError as error:
            raise UserError([_reworded(problem, self.config) for problem in error.problems]) from error
        template = _tokenizer(model, out)
        if self.config.card:
            (out / "README.md").write_text(card(out, config, known, template), encoding="utf-8")

    def _config(self, model: Path) -> dict[str, Any]:
        config = checkpoint.read_config(model)
        if self.config.dtype is not None:  # both names: transformers 4 reads the second
            config |= {"dtype": self.config.dtype.value, "torch_dtype": self.config.dtype.value}
        return config

    def _plan(self, model: Path) -> dict[str, Piece | Computed]:
        pieces = streaming.pieces(model)
        if self.config.dtype is None:
            return dict(pieces)
        word = _WORDS[self.config.dtype.value]
        return {
            name: piece
            if piece.dtype not in _FLOATS or piece.dtype == word
            else Computed(word, piece.shape, [piece], _as_it_is)
            for name, piece in pieces.items()
        }


def _as_it_is(blocks: Any) -> Callable[[int, list[Any]], Any]:
    """The numbers themselves; what they are written as rounds them."""
    return lambda number, sources: sources[0]


def _reworded(problem: Problem, config: HuggingFaceConfig) -> Problem:
    if config.dtype is None or "too large" not in problem.cause:
        return problem
    name = problem.fact.partition(" ")[0]
    cause = f"its numbers are too large for {config.dtype.value}"
    return Problem(f"{name} does not fit {config.dtype.value}", cause, "dtype bfloat16, or leave dtype out")


def _generation(model: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """``generation_config.json``: the model's own, with every id that ends an answer."""
    told = checkpoint.read_generation_config(model)
    ends = _listed(told.get("eos_token_id")) or _listed(config.get("eos_token_id"))
    if (model / tokenizer.FILE).is_file():
        try:
            loaded = tokenizer.load(model)
            ends = [*ends, *chat.stop_ids(loaded, loaded.chat_template)]
        except UserError:  # no padding token, which lmgraft needs to train and nobody needs to export
            pass
    for key in ("bos_token_id", "pad_token_id"):
        if told.get(key) is None and isinstance(config.get(key), int):
            told[key] = config[key]
    ends = list(dict.fromkeys(ends))
    if ends:
        told["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return told


def _listed(value: Any) -> list[int]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]


def _tokenizer(model: Path, out: Path) -> str | None:
    """Copies the tokenizer's files; gives the chat template."""
    names = list(tokenizer.names(model)) if (model / tokenizer.CONFIG).is_file() else [tokenizer.FILE]
    for name in dict.fromkeys([*names, *_OTHERS]):
        if (model / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / name, out / name)
    file = out / tokenizer.CONFIG
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    if (out / TEMPLATE).is_file():
        template: Any = (out / TEMPLATE).read_text(encoding="utf-8")
        if "chat_template" not in config:
            tokenizer.set_chat_template(out, template)
        return str(template)
    template = config.get("chat_template")
    if isinstance(template, str):
        (out / TEMPLATE).write_text(template, encoding="utf-8", newline="")
    return template if isinstance(template, str) else None
