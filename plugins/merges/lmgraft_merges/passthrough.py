"""Any layers of one or several models, stacked as they are: mergekit's ``passthrough``, bit for bit.

A slice is a stretch of a model's layers. What lies before the layers (embeddings) is the first slice's model's, what
lies behind them (norm, head) the last one's; a head that is the embedding is the first one's. Bytes are copied, so the
dtype must be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lmgraft.artifacts import checkpoint, layers, streaming
from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError

from lmgraft_merges.models import Models, read, unlike
from lmgraft_merges.plugin import PassthroughConfig, slices, unmatched

__all__ = ["Passthrough"]

#: Tensors before the layers, in the families' words.
_BEFORE = re.compile(r"(^|\.)(\w*embed(?!_out)\w*|wte|wpe|tok_embeddings)(\.|$)")

Order = Sequence[tuple[int, int]]


class Passthrough:
    """Implements :class:`lmgraft.seams.merge.Merge`."""

    def __init__(self, config: PassthroughConfig) -> None:
        self._config = config

    def merge(
        self,
        models: Sequence[Path],
        out: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Copies the layers' bytes, with the settings of the first slice's model.

        :raises UserError: a slice does not fit its model, the models differ, or layers get their kind by their number
            and would change it.
        """
        taken = slices(self._config.slices)
        found = read("passthrough", models, self._config.takes_models)
        problems = list(unmatched(taken, len(models)))
        if problems:
            raise UserError(problems)
        stacks = [layers.stack(*each) for each in zip(models, found.configs, found.tensors, strict=True)]
        problems = [*_outside(taken, models, stacks), *_differ(found, stacks, taken)]
        if problems:
            raise UserError(problems)
        order = [(model, old) for model, first, last in taken for old in range(first, last)]
        first = order[0][0]
        config = _config(found, stacks, order, first)
        generation = checkpoint.read_generation_config(models[first])
        streaming.write(out, _plan(found, stacks, order), config, generation, progress=progress)


def _plan(found: Models, stacks: Sequence[layers.Stack], order: Order) -> dict[str, Piece]:
    first, last = order[0][0], order[-1][0]
    plan = {}
    for model in {first, last}:
        for name, piece in found.tensors[model].items():
            if stacks[model].place(name) is None and model == (first if _BEFORE.search(name) else last):
                plan[name] = piece
    by_layer: dict[tuple[int, int], list[tuple[str, Piece]]] = {}
    for model, tensors in enumerate(found.tensors):
        for name, piece in tensors.items():
            place = stacks[model].place(name)
            if place is not None:
                by_layer.setdefault((model, place[0]), []).append((place[1], piece))
    for new, key in enumerate(order):
        plan.update({stacks[first].name(new, rest): piece for rest, piece in by_layer[key]})
    return plan


def _config(found: Models, stacks: Sequence[layers.Stack], order: Order, first: int) -> dict[str, object]:
    """The settings; layers must stay of the kind that they are."""
    # The first slice's model stands first: its settings count.
    ranked = [first, *(model for model in range(len(stacks)) if model != first)]
    configs = [found.configs[model] for model in ranked]
    depths = [stacks[model].layers for model in ranked]
    renamed = [(ranked.index(model), old) for model, old in order]
    wrong = layers.unjoinable(configs, depths, renamed)
    if wrong is not None:
        setting, new, old = wrong
        fact = f"{found.folders[first] / checkpoint.CONFIG}: {setting} gives layers their kind by their number"
        cause = f"layer {new} of the result is layer {old} of its model, which is of another kind"
        raise UserError(Problem(fact, cause, "take slices that begin and end where the kinds do"))
    return layers.joined_config(configs, depths, renamed)


def _outside(
    taken: Sequence[tuple[int, int, int]], models: Sequence[Path], stacks: Sequence[layers.Stack]
) -> Iterator[Problem]:
    for model, first, last in taken:
        if last > stacks[model].layers:
            cause = f"it has {stacks[model].layers}, 0 to {stacks[model].layers - 1}, and a slice's end is not in it"
            fact = f"the slice {first}:{last} does not fit the layers of {models[model]}"
            yield Problem(fact, cause, f"{first}:{stacks[model].layers} at most")


def _differ(found: Models, stacks: Sequence[layers.Stack], taken: Sequence[tuple[int, int, int]]) -> Iterator[Problem]:
    """A problem for each model that does not go with the first."""
    outlines = [_outline(tensors, stack) for tensors, stack in zip(found.tensors, stacks, strict=True)]
    for number in range(1, len(stacks)):
        fact = f"{found.folders[0]} and {found.folders[number]} cannot be stacked"
        problem = next(unlike(found, number), None)
        if problem is None and stacks[0].head != stacks[number].head:
            problem = f"their layers are {stacks[0].head}.N and {stacks[number].head}.N", "models of one family"
        if problem is None:
            problem = _first_difference(outlines[0], outlines[number])
        if problem is not None:
            yield Problem(fact, *problem)


def _outline(tensors: object, stack: layers.Stack) -> dict[str, set[tuple[str, tuple[int, ...]]]]:
    """Name, within a layer or outside of them -> the dtypes and shapes of the tensors of that name."""
    found: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    assert isinstance(tensors, dict)
    for name, piece in tensors.items():
        place = stack.place(name)
        found.setdefault(name if place is None else place[1], set()).add((piece.dtype, piece.shape))
    return found


def _first_difference(
    one: dict[str, set[tuple[str, tuple[int, ...]]]], two: dict[str, set[tuple[str, tuple[int, ...]]]]
) -> tuple[str, str] | None:
    remedy = "stack models of one family, size and dtype"
    for name in sorted(one.keys() ^ two.keys()):
        return f"only one of them has the tensor {name}", remedy
    for name, kinds in one.items():
        if kinds != two[name]:
            told = [" or ".join(f"{kind} {list(shape)}" for kind, shape in sorted(each)) for each in (kinds, two[name])]
            return f"{name} is {told[0]} in the one and {told[1]} in the other", remedy
    return None
