"""Which of llama.cpp's architectures a model folder is, with its settings, and where each tensor goes.

Facts of the layouts: llama.cpp's ``src/models/*.cpp`` (what is read) and ``conversion/*.py`` (what is written). Names,
orders of rows and keys follow those; models that llama.cpp would load and compute otherwise are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError

from lmgraft_gguf.tensors import Part, Tensor, given

__all__ = ["Builder", "Family", "family_of", "refuse"]

Value = str | int | float | bool
Config = Mapping[str, Any]


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

    def take(self, source: str, name: str, **how: Any) -> None:
        """Moves ``source`` with all of its ``weight`` and ``bias`` to ``name``; a weight must be there."""
        found = [kind for kind in ("weight", "bias") if f"{self.prefix}{source}.{kind}" in self.pieces]
        if "weight" not in found:
            fact = f"{self.where} has no tensor {self.prefix}{source}.weight"
            raise UserError(Problem(fact, "config.json says that it should", "take both from the same place"))
        for kind in found:
            full = f"{self.prefix}{source}.{kind}"
            # A bias is one column, which cannot be transposed.
            wanted = how if kind == "weight" else {key: value for key, value in how.items() if key != "transposed"}
            self.tensors.append(given(self.pieces, full, f"{name}.{kind}", **wanted))
            del self.pieces[full]

    def has(self, source: str) -> bool:
        return f"{self.prefix}{source}.weight" in self.pieces

    def stack(self, sources: list[str], name: str) -> None:
        """Moves matrices of one shape to one tensor (matrix, row, column)."""
        for source in sources:
            self.take(source, name)
        parts = self.tensors[-len(sources) :]
        del self.tensors[-len(sources) :]
        joined = tuple(part for tensor in parts for part in tensor.parts)
        self.tensors.append(Tensor(f"{name}.weight", (len(sources), *parts[0].shape), joined))

    def add(self, name: str, part: Part) -> None:
        """A tensor of computed values."""
        self.tensors.append(Tensor(name, (part.shape()[0],), (part,)))

    def head(self, *, tied: bool) -> None:
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
        self.take("lm_head", "output")
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


def number(config: Config, *names: str) -> int:
    """A size, by the first of the names that the file has.

    :raises UserError: it has none of them.
    """
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    fact = f"config.json gives no {names[0]}"
    raise UserError(Problem(fact, "llama.cpp is told every size", "take config.json from where the weights came from"))
