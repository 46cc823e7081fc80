"""Which of llama.cpp's architectures a model folder is, with its settings, and where each tensor goes.

Facts of the layouts: llama.cpp's ``src/models/*.cpp`` (what is read) and ``conversion/*.py`` (what is written). Names,
orders of rows and keys follow those; models that llama.cpp would load and compute otherwise are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError

from lmgraft_gguf.tensors import Part, Tensor, given
from lmgraft_gguf.values import Config, number

__all__ = ["Builder", "Family", "family_of", "refuse"]

Value = str | int | float | bool


@dataclass(slots=True)
class Family:
    """A model in llama.cpp's terms."""

    architecture: str
    """llama.cpp's word."""
    settings: dict[str, Value]
    """Keys without the architecture before them."""
    tensors: list[Tensor] = field(default_factory=list)
    """In the order in which they are written."""


@dataclass(slots=True)
class Builder:
    """Takes tensors out of a folder; in the end none may be left."""

    pieces: dict[str, Piece]
    config: Config
    where: Path
    prefix: str = ""
    """Before every name of the folder: GPT-2's and BLOOM's own uploads lack theirs."""
    tensors: list[Tensor] = field(default_factory=list)

    def take(
        self,
        source: str,
        name: str,
        shape: tuple[int | None, ...],
        *,
        transposed: bool = False,
        order: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """Moves ``source`` with all of its ``weight`` and ``bias`` to ``name``.

        :param shape: the weight's in the folder, which ``config.json`` leads to; None where any size will do.
        :param order: makes the order of rows, when their number is known to be right.
        :raises UserError: there is no weight, or one of another shape.
        """
        found = [kind for kind in ("weight", "bias") if f"{self.prefix}{source}.{kind}" in self.pieces]
        if "weight" not in found:
            fact = f"{self.where} has no tensor {self.prefix}{source}.weight"
            raise UserError(Problem(fact, "config.json says that it should", "take both from the same place"))
        for kind in found:
            full = f"{self.prefix}{source}.{kind}"
            # A bias is one column, as long as the answers are, and cannot be transposed.
            self._fits(full, shape if kind == "weight" else (shape[-1 if transposed else 0],))
            turned = transposed and kind == "weight"
            rows = None if order is None else order()
            self.tensors.append(given(self.pieces, full, f"{name}.{kind}", transposed=turned, order=rows))
            del self.pieces[full]

    def _fits(self, full: str, shape: tuple[int | None, ...]) -> None:
        found = self.pieces[full].header.shape
        if len(found) == len(shape) and all(size in (None, own) for own, size in zip(found, shape, strict=True)):
            return
        told = " x ".join("any" if size is None else str(size) for size in shape)
        fact = f"{self.where}: {full} is {' x '.join(map(str, found)) or 'a scalar'}"
        raise UserError(Problem(fact, f"config.json leads to {told}", "take both from the same place"))

    def has(self, source: str) -> bool:
        return f"{self.prefix}{source}.weight" in self.pieces

    def stack(self, sources: Iterable[str], name: str, shape: tuple[int, int]) -> None:
        """Moves matrices of one shape to one tensor (matrix, row, column)."""
        before = len(self.tensors)
        for source in sources:
            self.take(source, name, shape)
        joined = tuple(part for tensor in self.tensors[before:] for part in tensor.parts)
        del self.tensors[before:]
        self.tensors.append(Tensor(f"{name}.weight", (len(joined), *shape), joined))

    def add(self, name: str, part: Part) -> None:
        """A tensor of computed values."""
        self.tensors.append(Tensor(name, (part.shape()[0],), (part,)))

    def head(self, hidden: int, *, tied: bool) -> None:
        """The head where it is a matrix of its own; a copy of a tied one is left out, as llama.cpp has it."""
        if "lm_head.weight" not in self.pieces:
            if not tied:
                fact, cause = f"{self.where} has no tensor lm_head.weight", "config.json says that the head is not tied"
                raise UserError(Problem(fact, cause, "take both from the same place"))
            return
        if tied:
            del self.pieces["lm_head.weight"]
            return
        prefix, self.prefix = self.prefix, ""
        self.take("lm_head", "output", (None, hidden))
        self.prefix = prefix

    def end(self, *ignored: str) -> None:
        """:raises UserError: something is left that has no place."""
        left = sorted(name for name in self.pieces if not name.endswith(ignored or ("\0",)))
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            cause = f"llama.cpp's {self.config.get('model_type')} has no place for it{more}"
            raise UserError(
                Problem(f"{self.where} holds {left[0]}", cause, "lmgraft export hf keeps the model as it is")
            )


def refuse(where: Path, what: str, cause: str) -> UserError:
    """A switch that llama.cpp lacks."""
    return UserError(Problem(f"{where}: {what}", cause, "lmgraft export hf MODEL OUT keeps the model as it is"))


def family_of(config: Config, pieces: Mapping[str, Piece], where: Path) -> Family:
    """:raises UserError: llama.cpp has no such family, or lacks one of its switches, or a tensor is missing."""
    kinds = _kinds()
    kind = str(config.get("model_type"))
    if kind not in kinds:
        cause = f"it writes {', '.join(sorted(kinds))}"
        if kind == "lstm" or "lstm" in kind:
            cause = f"llama.cpp computes no lstm; {cause}"
        raise refuse(where, f"the exporter gguf does not know models of type {kind!r}", cause)
    norm = config.get("lmgraft_norm")
    if norm not in (None, "rmsnorm", "layernorm"):
        raise refuse(
            where, f"the model is without norms (lmgraft_norm {norm!r})", "llama.cpp normalises in every layer"
        )
    return kinds[kind](config, Builder(dict(pieces), config, where))


def _kinds() -> dict[str, Callable[[Config, Builder], Family]]:
    from lmgraft_gguf import llama, others

    return {
        "llama": llama.build, "mistral": llama.build, "qwen2": llama.build, "mixtral": llama.build,
        "gpt2": others.gpt2, "falcon": others.falcon, "bloom": others.bloom,
    }  # fmt: skip


def layers(config: Config, *names: str) -> Iterator[int]:
    """0 to the depth, by the first of the names that the file has."""
    return iter(range(number(config, *names)))
