"""Gives a model another vocabulary: old tokens keep their rows of embedding and head, bit for bit, new ones get theirs.

New rows as transformers makes them when it resizes (``mean_resizing``, huggingface/transformers#33325, after Hewitt
2021, "Initializing New Word Embeddings for Pretrained Language Models"): drawn from the normal distribution with the
old rows' mean and covariance, which transformers multiplies by 1e-9. Or as the mean of their sub-pieces' rows, where
the model has seen the text before, in smaller tokens. Deviations: where the covariance is not positive definite
transformers takes the bare mean, and here a draw has the covariance whatever its rank; a head's bias is treated as a
row of width one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, streaming
from lmgraft.artifacts.checkpoint import Header
from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError

from lmgraft_vocabulary_rows.plugin import VocabularyRowsConfig, needs_tokenizer
from lmgraft_vocabulary_rows.rows import OldRows, new_rows, write_table
from lmgraft_vocabulary_rows.settings import of_new_vocabulary
from lmgraft_vocabulary_rows.tensors import HEAD, tables, vocabulary
from lmgraft_vocabulary_rows.vocabulary import Exchange, exchange

__all__ = ["VocabularyRows"]

#: Tokens of the old vocabulary named in a message.
_NAMED = 3
#: Of ``normal``, where config.json has no ``initializer_range``: that of GPT-2 and LLaMA.
_STD = 0.02

Progress = Callable[[int, int], None]


class VocabularyRows:
    """Implements :class:`lmgraft.seams.merge.VocabularyMerge`."""

    def __init__(self, config: VocabularyRowsConfig) -> None:
        self._config = config

    def merge(self, models: Sequence[Path], out: Path, progress: Progress = lambda done, total: None) -> None:
        """Raises UserError: without a tokenizer there is nothing to do."""
        remedy = "STAGE.tokenizer=TOKENIZER in a recipe, or lmgraft merge vocabulary_rows MODEL OUT --tokenizer FOLDER"
        raise UserError(needs_tokenizer(remedy))

    def merge_vocabulary(
        self,
        models: Sequence[Path],
        tokenizer: Path,
        out: Path,
        progress: Progress = lambda done, total: None,
    ) -> None:
        """Writes the model with the rows of ``tokenizer``; see the module's docstring.

        :raises UserError: not exactly one model, its tokens are not all in the new vocabulary (and ``drop_old`` is not
            set), or its embedding is not known.
        """
        if len(models) != 1:
            cause = f"it is given {len(models)}: a vocabulary is that of one model"
            raise UserError(Problem("vocabulary_rows takes one model", cause, "name one model"))
        (model,) = models
        config = checkpoint.read_config(model)
        generation = checkpoint.read_generation_config(model)
        tensors = streaming.pieces(model)
        if config.get("tie_word_embeddings"):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            tensors = {name: piece for name, piece in tensors.items() if name != HEAD}
        found = tables(model, config, tensors)
        words = exchange(model, vocabulary(model, config), tokenizer)
        self._check(model, tokenizer, words)
        out.mkdir(parents=True, exist_ok=True)
        scratch = [out / f".rows-{number}" for number in range(len(found))]
        sizes = {name: _size(piece, len(words.rows)) for name, piece in found.items()}
        total = sum(sizes.get(name, piece.size) for name, piece in tensors.items())
        try:
            for number, (name, piece) in enumerate(found.items()):
                self._write(scratch[number], piece, number, words, config, lambda: progress(0, total))
                header = Header(scratch[number], piece.header.dtype, (len(words.rows), *piece.header.shape[1:]))
                tensors[name] = Piece(header, 0, sizes[name])
            new_config = of_new_vocabulary(config, words)
            streaming.write(out, tensors, new_config, of_new_vocabulary(generation, words), progress=progress)
        finally:
            for file in scratch:
                file.unlink(missing_ok=True)

    def _write(
        self,
        file: Path,
        piece: Piece,
        number: int,
        words: Exchange,
        config: Mapping[str, Any],
        alive: Callable[[], None],
    ) -> None:
        """One table to a file of its own: every table draws from a sequence of its own."""
        old = OldRows(piece)
        own = config.get("initializer_range")
        std = self._config.std
        if std is None:
            std = float(own) if isinstance(own, int | float) else _STD
        seed = _seed(self._config.seed, number)
        fresh = new_rows(old, self._config.rows, words, scale=self._config.scale, std=std, seed=seed)
        write_table(file, old, words.rows, fresh, alive)

    def _check(self, model: Path, tokenizer: Path, words: Exchange) -> None:
        if not words.dropped or self._config.drop_old:
            return
        some = ", ".join(map(repr, words.dropped[:_NAMED])) + (" ..." if len(words.dropped) > _NAMED else "")
        fact = f"{tokenizer} lacks {len(words.dropped)} of {model}'s tokens: {some}"
        cause = "their rows would be lost, and a tokenizer that was extended from the model's own has them all"
        raise UserError(Problem(fact, cause, "extend the model's own tokenizer, or drop_old=true"))


def _size(piece: Piece, rows: int) -> int:
    return piece.size // piece.header.shape[0] * rows


def _seed(seed: int, number: int) -> int:
    """Another sequence for each table, never that of the next seed."""
    import numpy as np

    return int(np.random.SeedSequence([seed % 2**64, number]).generate_state(1, np.uint64)[0] >> 1)
