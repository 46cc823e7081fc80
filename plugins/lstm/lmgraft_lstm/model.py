"""Embedding, LSTM layers, head. One weight a gate; torch's kernels get them joined.

A gate is ``sigmoid`` (``tanh`` for the cell's candidate) of ``input_weight x + state_weight h + bias``; the cell is
``forget * cell + input * candidate`` and the state ``output * tanh(cell)`` (Gers et al. 2000, with a forget gate and
without peepholes, as in ``torch.nn.LSTM``, whose second bias is left out: it is one sum with the first).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.training import asks as positionwise
from torch import nn
from torch.nn import functional

from lmgraft_lstm.runs import batches, one_each

__all__ = ["LstmModule", "States"]

#: In the order of torch's kernels.
GATES = ("input_gate", "forget_gate", "cell_gate", "output_gate")


class States:
    """What the layers remember of each row, (layers, B, hidden) twice.

    A :class:`lmgraft.seams.architecture.RowCache`: a state is as large after one token as after a thousand, so rows
    of any length stand beside one another.
    """

    __slots__ = ("cells", "hidden")

    def __init__(self, hidden: torch.Tensor, cells: torch.Tensor) -> None:
        self.hidden = hidden
        self.cells = cells

    def select(self, rows: Sequence[int]) -> States:
        """These rows, in this order."""
        at = torch.tensor(list(rows), dtype=torch.int64, device=self.hidden.device)
        return States(self.hidden[:, at], self.cells[:, at])

    def join(self, other: States) -> States:
        """This one's rows, then the other's."""
        return States(torch.cat((self.hidden, other.hidden), 1), torch.cat((self.cells, other.cells), 1))


class Gate(nn.Module):
    """The weights of one gate of one layer."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.input_weight = nn.Parameter(torch.empty(hidden, hidden))
        self.state_weight = nn.Parameter(torch.empty(hidden, hidden))
        self.bias = nn.Parameter(torch.empty(hidden))


class LstmLayer(nn.Module):
    """Four gates."""

    def __init__(self, hidden: int, forget_bias: float) -> None:
        super().__init__()
        self.forget_bias = forget_bias
        self.input_gate, self.forget_gate, self.cell_gate, self.output_gate = (Gate(hidden) for _ in GATES)

    def joined(self) -> list[torch.Tensor]:
        """The gates below one another, as ``torch.lstm`` takes them."""
        gates = [self.get_submodule(name) for name in GATES]
        biases = [gate.bias + self.forget_bias if gate is self.forget_gate else gate.bias for gate in gates]
        bias = torch.cat(biases)  # type: ignore[arg-type]
        into, back = (torch.cat([getattr(gate, name) for gate in gates]) for name in ("input_weight", "state_weight"))
        return [into, back, bias, torch.zeros_like(bias)]


class Embedding(nn.Embedding):
    """Not filled: weights come from an initializer or a file."""

    def reset_parameters(self) -> None:
        return


class Head(nn.Module):
    """The output matrix."""

    def __init__(self, vocab_size: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden))


class LstmModule(nn.Module):
    """See :meth:`lmgraft.seams.architecture.Architecture.build` for what ``forward`` takes and gives."""

    def __init__(self, vocab_size: int, hidden: int, layers: int, tied: bool, forget_bias: float) -> None:
        super().__init__()
        self.tied = tied
        self.embed_tokens = Embedding(vocab_size, hidden)
        self.layers = nn.ModuleList(LstmLayer(hidden, forget_bias) for _ in range(layers))
        self.lm_head = Head(vocab_size, hidden)
        self._tie()

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: States | None = None,
    ) -> Outputs:
        """``positions`` are not read: a recurrence knows where it is. ``cache`` goes on with its rows, which are then
        one segment each; of rows with several segments, or with padding at the left, no cache is given."""
        return self.answer(self.joined(), tokens, segments, targets, frozenset(asks), cache)

    def answer(
        self,
        weights: list[torch.Tensor],
        tokens: torch.Tensor,
        segments: torch.Tensor | None,
        targets: torch.Tensor | None,
        asks: frozenset[str],
        cache: States | None,
    ) -> Outputs:
        """What ``forward`` gives, by the weights of :meth:`joined`."""
        if unknown := asks - positionwise.COMPUTED - {"next_logits"}:
            raise Fault(f"the LSTM cannot answer {', '.join(sorted(unknown))}")
        if cache is not None and segments is not None:
            raise Fault("a sequence with a cache is one segment: give no segments with it")
        hidden, states = self._read(weights, tokens, segments, cache)
        out = positionwise.compute(hidden, self.lm_head.weight, targets, asks - {"next_logits"})
        if "next_logits" in asks:
            out.next_logits = functional.linear(hidden[:, -1], self.lm_head.weight).float()
            out.cache = states  # None: the whole sequence is to be given again
        return out

    def joined(self) -> list[torch.Tensor]:
        """All layers' weights in the layout of torch's kernels."""
        return [tensor for layer in self.layers for tensor in layer.joined()]  # type: ignore[operator]

    def generation(self) -> Ready:
        """The same model with its weights joined once, in place of once a token."""
        return Ready(self)

    def _read(
        self, weights: list[torch.Tensor], tokens: torch.Tensor, segments: torch.Tensor | None, cache: States | None
    ) -> tuple[torch.Tensor, States | None]:
        """(B, T, hidden) outputs of the last layer, and the states after the last token."""
        # In float32 under autocast too: what a state has once lost is lost for all tokens after it.
        with torch.autocast(tokens.device.type, enabled=False):
            x = self.embed_tokens(tokens)
            if segments is None or one_each(segments):
                return self._run(weights, x, cache)
            flat = x.flatten(0, 1)
            parts = [(grid[there], self._run(weights, flat[grid], None)[0][there]) for grid, there in batches(segments)]
            if not parts:
                return torch.zeros_like(x), None
            places, outputs = (torch.cat(one) for one in zip(*parts, strict=True))
            return torch.zeros_like(flat).index_copy(0, places, outputs).view_as(x), None

    def _run(self, weights: list[torch.Tensor], x: torch.Tensor, cache: States | None) -> tuple[torch.Tensor, States]:
        """torch's kernel over (rows, steps, hidden)."""
        layers = len(self.layers)
        if cache is None:
            zero = x.new_zeros(layers, x.shape[0], x.shape[-1])
            cache = States(zero, zero)
        state = (cache.hidden, cache.cells)
        out, hidden, cells = torch.lstm(x, state, weights, True, layers, 0.0, self.training, False, True)
        return out, States(hidden, cells)

    def _tie(self) -> None:
        if self.tied:
            self.lm_head.weight = self.embed_tokens.weight

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> LstmModule:
        """Moves (``to``, ``to_empty``) make new parameters where the old ones are on ``meta``: tie them again."""
        super()._apply(fn, recurse)
        self._tie()
        return self


class Ready(nn.Module):
    """An :class:`LstmModule` whose weights no longer change."""

    def __init__(self, module: LstmModule) -> None:
        super().__init__()
        self._module = module.eval()
        with torch.no_grad():
            self._weights = module.joined()

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: States | None = None,
    ) -> Outputs:
        """As :meth:`LstmModule.forward`."""
        return self._module.answer(self._weights, tokens, segments, targets, frozenset(asks), cache)
