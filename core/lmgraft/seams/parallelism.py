"""Seam ``parallelism``: how a model is laid out over devices and stepped.

A parallelism part launches ranks (or joins those of torchrun or SLURM) and makes an :class:`Engine` on each. The
training loop knows engines, not models.

Rules
- ``Engine.data`` is (rank, size) among the ranks that read different data; tensor and pipeline peers read the same.
- ``forward_backward`` returns equal statistics on every rank.
- After ``forward_backward`` exactly one of ``apply`` or ``discard`` is called.
- Every method but ``data``, ``main`` and ``parameters`` is called on every rank in the same order, with the same
  arguments but for the batches, which differ between data ranks. A rank decides nothing alone: ``agree``.
- Weights start the same in every layout: each canonical tensor is initialised from (seed, name) alone.
- Checkpoints are of canonical, unfused, unsharded tensors: any layout loads any other's.
- Padded vocabulary columns count as minus infinity.

One step. The loop cuts its data rank's share of the batch into microbatches and calls ``forward_backward`` once with
all of them. The engine

1. adds up ``Objective.normalizers`` over all microbatches and data ranks; only then a total of 0 counts as 1;
2. adds up what ``prepare`` gives, where the objective has it: one forward pass more for each microbatch, without
   gradients; the sums go to every ``loss`` as ``shared``, which is ``{}`` otherwise;
3. for each microbatch runs the module with the objective's ``asks``, calls ``Objective.loss`` and goes backward
   through the sum over k of ``terms[k] / total[k]``, plus each of ``Outputs.model_losses`` divided by the number of
   microbatches of all data ranks, those of padding too;
4. *sums* gradients over data ranks; it never averages them. A parameter that no microbatch of any rank reached has no
   gradient (None, as in one process): zeros would let the optimizer decay it.

The loop then calls ``apply(lr)``, or ``discard()`` where loss or norm is not finite. Before a step it seeds torch's
generator from (seed, step, data rank). Every forward pass over a batch is this one::

    out = module(batch.tokens, positions=batch.positions, segments=batch.segments, targets=batch.targets, asks=asks)

- Positions and segments are always passed on: packed documents and padding are told apart by nothing else.
- The module is in ``train()`` mode for ``forward_backward``, its ``prepare`` passes too, and in ``eval()`` mode for
  ``score`` and the handle; the engine sets it in each of them, since the loop calls them by turns.
- With ``bfloat16`` the module alone runs inside ``torch.autocast(device.type, dtype=torch.bfloat16)``: ``prepare``,
  ``loss`` and the backward pass stand outside it. Answers are float32 in any case.
- Batch, answers and ``shared`` lie on one device when the objective is given them.

Weights. ``lmgraft.training.weights`` builds a module, fills it from the initializer or from a model folder, gives its
canonical tensors and exports them; ``lmgraft.training.handle.Handle`` is a :class:`ModelHandle` over any module. Moving
a :class:`~lmgraft.seams.objective.Batch` and the choice of autocast are ten lines that each engine has of its own:
``_to`` and ``_autocast`` in plugins/data_parallel/lmgraft_data_parallel/engine.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmgraft.seams.architecture import Architecture, Outputs, Role
from lmgraft.seams.initializer import Initializer
from lmgraft.seams.objective import Batch, Objective
from lmgraft.seams.optimizer import Optimizer

if TYPE_CHECKING:
    import torch

__all__ = [
    "BatchingHandle",
    "Completion",
    "Decoding",
    "Engine",
    "EnginePlan",
    "ModelHandle",
    "Parallelism",
    "Sampling",
    "Scored",
    "StepStats",
]


@dataclass(frozen=True, slots=True)
class StepStats:
    """Statistics of one step, equal on every rank."""

    loss: float
    """What was optimised: the sum over terms of sum / total, and the model's own losses, of the whole batch."""
    grad_norm: float
    """Global L2 norm before clipping; ``nan`` or ``inf`` where the step is unusable."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """``Loss.metrics`` of all microbatches and ranks: name -> sum / count; names with a count of 0 are left out."""


@dataclass(slots=True)
class EnginePlan:
    """All that an engine needs in order to build, start and step a model."""

    architecture: Architecture
    """The built part; ``architecture.build(vocab_size, device)`` is the module."""
    vocab_size: int
    """V of the tokenizer; a layout may pad it inside, and exports exactly this many."""
    device: str
    """``cpu``, ``cuda`` or ``mps``."""
    precision: str
    """``float32`` or ``bfloat16``: forward passes run under autocast; weights and optimizer state stay float32. For
    asking only, where there is no objective, also ``int8``: the projections' weights are held as int8 with a scale a
    row (:mod:`lmgraft.training.int8`) and all else is float32. An engine that cannot refuses it."""
    seed: int
    """Decides the weights that the initializer gives."""
    weights: Path | None = None
    """A Hugging Face model folder to start from; None: the initializer's weights."""
    initializer: Initializer | None = None
    """Fills the weights where ``weights`` is None; then it is there. Its rules for learning rates hold in any case
    (:func:`lmgraft.training.weights.tensor_roles`)."""
    objective: Objective | None = None
    """None: the engine only scores and generates; neither ``forward_backward`` nor ``save`` is called."""
    optimizer: Optimizer | None = None
    """None: the engine does not step."""
    clip: float | None = None
    """Gradients are scaled to this global norm at most."""
    compile: bool = False
    """torch.compile the module."""
    trainable: frozenset[Role] = frozenset()
    """Only parameters of these roles are trained; empty: all. The others keep every bit, weight decay or not, and
    neither gradients nor optimizer state are kept of them. The norm that is clipped and told is of what is trained."""
    trainable_layers: frozenset[int] = frozenset()
    """Only parameters of these layers (``TensorRole.layer``: of the whole model, whatever of it lies on a rank) and of
    the roles in ``trainable`` are trained; empty: of all layers. What lies outside the stack is then frozen too, unless
    its role is named in ``trainable``. The rule: :func:`lmgraft.training.freezing.is_trained`. A layout that goes by it
    says ``api=2`` in its Component; a stage that wants layers refuses any other."""
    frozen_rows: int = 0
    """So many first rows of embedding and head (roles ``EMBEDDING`` and ``HEAD``) keep every bit; their gradients count
    neither in the norm nor in the optimizer, whose state, in checkpoints too, is that of the other rows alone. How:
    :mod:`lmgraft.training.freezing`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Per predicted token, in order: its natural log-probability and whether it was the argmax."""

    logprobs: list[float]
    """Natural logarithms, one a token of the continuation."""
    greedy: list[bool]
    """Was the token the most probable one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch those off."""

    max_new_tokens: int = 128
    """Tokens at most."""
    temperature: float = 0.8
    """Logits are divided by it; 0 takes the most probable token."""
    top_k: int = 0
    """Only the k most probable tokens; 0: all."""
    top_p: float = 1.0
    """Only the most probable tokens that make up this much probability; 1: all."""
    repetition_penalty: float = 1.0
    """Logits of tokens that the prompt or the text holds are divided by it where they are positive and multiplied where
    they are negative, before anything else (Keskar et al. 2019, arXiv:1909.05858, as transformers has it); 1: off."""
    seed: int = 0
    """Of the generator that draws."""
    stop_ids: tuple[int, ...] = ()
    """An id that ends the text; it is yielded too."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation."""

    ids: list[int]
    """The new tokens, a stop id included."""
    finished: bool
    """True where a stop id ended it, False where the limit did."""


@runtime_checkable
class ModelHandle(Protocol):
    """A model to ask, under any layout. Evaluators and text generation see this, never a module."""

    @property
    def context(self) -> int:
        """The longest sequence it takes."""
        ...

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """For each (prefix, continuation) the continuation's tokens, given all before them; results in order.

        Prefix and continuation together are at most ``context + 1`` ids (the last is predicted, never read); the
        prefix holds at least one id.
        """
        ...

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Token by token. Deterministic for one seed on one device."""
        ...


@runtime_checkable
class Decoding(Protocol):
    """Texts that are written together: each step gives each of them one more token. They come and go at any time, and
    a text is the same whatever else is written beside it, up to the last digits of float sums."""

    def add(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Reads a prompt (at least one id, shorter than ``context``) and gives the number that the text goes by."""
        ...

    def remove(self, number: int) -> None:
        """Ends a text before its time; one that has ended already is passed over."""
        ...

    def step(self) -> list[tuple[int, int, bool]]:
        """(number, id, is this its last) of one more token of every text, in the order they were added; empty where
        there is none. A text ends as :meth:`ModelHandle.generate` says."""
        ...

    def __len__(self) -> int:
        """Texts under way."""
        ...


@runtime_checkable
class BatchingHandle(ModelHandle, Protocol):
    """A handle that writes several texts at once. Optional; core's own (``lmgraft.training.handle``) does."""

    def decoding(self) -> Decoding:
        """A new, empty batch of texts."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A model under a layout: what the training loop and evaluation work with. One on each rank."""

    @property
    def data(self) -> tuple[int, int]:
        """(rank, size) among the ranks that read different data."""
        ...

    @property
    def main(self) -> bool:
        """True on exactly one rank: the one that writes files."""
        ...

    def forward_backward(self, microbatches: Sequence[Batch]) -> StepStats:
        """Gradients of the whole batch, of which ``microbatches`` is this data rank's share, and its statistics (see
        "One step" above). Batches come on the CPU. All of them count, whatever their number and sizes; data ranks have
        equally many, evened out by rows of padding without weight. No parameter changes."""
        ...

    def apply(self, lr: float) -> None:
        """Clips (by the factor clip / norm where the norm is larger), steps the optimizer and forgets the gradients.

        ``lr`` is the rate of this step. Each group of the optimizer takes ``lr`` times its own ``scale``; the engine
        multiplies: ``group["lr"] = lr * group.get("scale", 1.0)``.
        """
        ...

    def discard(self) -> None:
        """Forgets the gradients without a step; the next ``forward_backward`` begins from nothing."""
        ...

    def agree(self, flag: bool) -> bool:
        """True on every rank where ``flag`` is true on any: clocks and signals differ between ranks, and a checkpoint
        that only one of them begins would wait for the others for ever."""
        ...

    def score(self, batches: Iterator[Batch], asks: frozenset[str]) -> Iterator[tuple[Batch, Outputs]]:
        """Forward only, in ``eval()`` mode. Every rank of one data rank gets the same answers; data ranks may score
        different batches, and then each must score equally many of them.

        Yields each batch, in order, with its answers. Both lie on one device, since the caller computes with both: the
        batch as it was moved beside the answers, or as it was given, on the CPU, with answers brought there. Answers
        have the batch's own shape, without what a layout padded inside.
        """
        ...

    def handle(self) -> ModelHandle:
        """The model to ask, with the engine's weights at each time it is asked. All ranks ask it alike."""
        ...

    def save(self, folder: Path) -> None:
        """Writes ``model.safetensors``, canonical tensors as :func:`lmgraft.training.weights.canonical` names them,
        and, where the plan has an optimizer, ``optimizer.safetensors`` as :func:`lmgraft.training.optimizer_state.save`
        writes it. ``folder`` is there, and core makes it atomic. Only the main rank writes, the others gather with it:
        they are given a folder that they must not touch."""
        ...

    def load(self, folder: Path) -> None:
        """Restores what ``save`` wrote, under this or another layout; without an optimizer in the plan the weights
        alone. Every rank reads the same folder.

        :raises UserError: its tensors are those of another architecture.
        """
        ...

    def export(self, folder: Path) -> None:
        """Writes ``config.json``, ``generation_config.json`` and ``model.safetensors`` in Hugging Face form, on the
        main rank; :func:`lmgraft.training.weights.export` does it from canonical tensors."""
        ...

    def parameters(self) -> Mapping[str, torch.Size]:
        """Canonical names and shapes of the whole model, the same on every rank."""
        ...


@runtime_checkable
class Parallelism(Protocol):
    """The part: puts work on ranks, with an engine for each."""

    def launch(self, work: Callable[[Callable[[EnginePlan], Engine]], None]) -> None:
        """Calls ``work(make_engine)`` on every rank and returns when all are done.

        ``work`` is picklable and talks to the parent through files only. One process: calls it in place, inside
        :func:`lmgraft.training.settings.repeatable`. Several: :func:`lmgraft.training.ranks.launch` starts local ranks
        or joins torchrun's, each with its process group and repeatable, and ends them all when one fails::

            def launch(self, work):
                device = ranks.wanted_device(work) or "cpu"
                ranks.launch(functools.partial(_rank, work), ranks=self.config.ranks, device=device)

            def _rank(work):         # of the module: what goes to another process is pickled
                work(MyEngine)       # called with an EnginePlan
        """
        ...
