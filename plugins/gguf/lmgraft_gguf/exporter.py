"""Exporter ``gguf``: a model folder as one file that llama.cpp reads, with tokenizer and chat template inside.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, written by the ``gguf`` package of llama.cpp, tensor
by tensor in blocks of rows: memory stays at a few dozen megabytes whatever the model's size, and torch is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from lmgraft.artifacts import checkpoint, streaming
from lmgraft.errors import Problem, UserError
from lmgraft.seams.exporter import Known

from lmgraft_gguf import tensors
from lmgraft_gguf.families import Family, family_of
from lmgraft_gguf.plugin import GGUFConfig
from lmgraft_gguf.quantise import FILE_TYPES, as_bytes, byte_shape, kind_of, size_of
from lmgraft_gguf.vocabulary import Vocabulary, read

__all__ = ["GGUF"]


class GGUF:
    """Implements :class:`lmgraft.seams.exporter.InformedExporter`."""

    def __init__(self, config: GGUFConfig) -> None:
        self.config = config

    def export(self, model: Path, out: Path) -> None:
        """Writes ``model-TYPE.gguf`` to ``out``."""
        self.export_informed(model, out, Known())

    def export_informed(
        self, model: Path, out: Path, known: Known, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """The same with name, licence and languages, where they are known.

        :raises UserError: llama.cpp has no such model or no such tokenizer, or the folder is broken.
        """
        checkpoint.verify(model)
        pieces = streaming.pieces(model)
        tensors.check(pieces)
        family = family_of(checkpoint.read_config(model), pieces, model)
        words = read(model, _rows(family))
        file = out / f"model-{self.config.type.value}.gguf"
        out.mkdir(parents=True, exist_ok=True)
        writer = gguf.GGUFWriter(None, family.architecture)
        self._tell(writer, family, words, known)
        try:
            self._write(writer, family, file, progress)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        finally:
            writer.close()

    def _tell(self, writer: gguf.GGUFWriter, family: Family, words: Vocabulary, known: Known) -> None:
        """The key-value pairs, in a fixed order."""
        writer.add_type("model")
        if known.name:
            writer.add_name(known.name)
        if known.license:
            writer.add_license(known.license)
        if known.languages:
            writer.add_languages(list(known.languages))
        writer.add_file_type(FILE_TYPES[self.config.type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in family.settings.items():
            name = f"{family.architecture}.{key}"
            if isinstance(value, bool):
                writer.add_bool(name, value)
            elif isinstance(value, int):
                writer.add_uint32(name, value)
            elif isinstance(value, float):
                writer.add_float32(name, value)
            else:
                writer.add_string(name, value)
        words.tell(writer)

    def _write(self, writer: gguf.GGUFWriter, family: Family, file: Path, progress: Callable[[int, int], None]) -> None:
        names = {tensor.name for tensor in family.tensors}
        tied = "output.weight" not in names
        kinds = [kind_of(one.name, one.shape, self.config.type, tied=tied) for one in family.tensors]
        for tensor, kind in zip(family.tensors, kinds, strict=True):
            shape = byte_shape(tensor.shape, kind)
            size = size_of(tensor.shape, kind)
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), size, raw_dtype=kind)
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        stream = writer.fout[0]
        writer.write_padding(stream, stream.tell())
        total = sum(size_of(tensor.shape, kind) for tensor, kind in zip(family.tensors, kinds, strict=True))
        done = 0
        for tensor, kind in zip(family.tensors, kinds, strict=True):
            size = 0
            for rows in tensor.blocks():
                held = as_bytes(rows, kind, tensor.name)
                stream.write(held.data)
                size += held.nbytes
                progress(done + size, total)
            writer.write_padding(stream, size)
            done += size


def _rows(family: Family) -> int:
    """Tokens that the embedding has rows for."""
    for tensor in family.tensors:
        if tensor.name == "token_embd.weight":
            return tensor.shape[0]
    fact, cause = "the model has no embedding", "every model that llama.cpp reads begins with one"
    raise UserError(Problem(fact, cause, "take the weights from where they came from"))
