"""The part: starts the ranks (or joins those of torchrun), lays them out, and makes an engine on each."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import TensorRole
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training import joining, ranks

from lmgraft_megatron.plugin import MegatronConfig
from lmgraft_megatron.refusals import asked_only, expressible, rates, split

__all__ = ["Megatron"]

CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS"

Work = Callable[[Callable[[EnginePlan], Engine]], None]


class Megatron:
    """Tensor, pipeline, sequence and data parallelism by megatron-core."""

    def __init__(self, config: MegatronConfig) -> None:
        self._config = config

    def launch(self, work: Work) -> None:
        """Runs ``work`` on every rank; see :func:`lmgraft.training.ranks.launch` for errors."""
        device = _device(work)
        gpus = _gpus() if device == "cuda" else 0
        count = self._config.size(gpus)
        if device == "cuda" and count > gpus and not joining.joined():
            cause = f"this machine has {gpus} GPUs, and each rank takes one"
            remedy = f"parallelism.ranks={gpus} or fewer, or start torchrun on several machines"
            raise UserError(Problem(f"megatron: {count} ranks", cause, remedy))
        with _one_connection():
            ranks.launch(_Body(self._config, work, device), ranks=count, device=device, threads=self._config.threads)


@dataclass(frozen=True, slots=True)
class _Body:
    """What every rank runs: picklable."""

    config: MegatronConfig
    work: Work
    device: str

    def __call__(self) -> None:
        with _one_connection(), _ground(self.device):
            self.work(self.engine)

    def engine(self, plan: EnginePlan) -> Engine:
        from torch import distributed

        config = self.config
        problems = [
            *expressible(plan.architecture.spec(), config, distributed.get_world_size()),
            *asked_only(plan.precision),
        ]
        if problems:
            raise UserError(problems)
        from lmgraft_megatron.layout import joined_layout

        layout = joined_layout(config.tensor, config.pipeline, config.sequence_parallel, plan.device)
        from lmgraft_megatron.engine import MegatronEngine

        fused = split(plan.trainable, plan.architecture.spec()) or rates(_trained_roles(plan))
        distribute = config.distributed_optimizer
        if distribute is None:
            distribute = plan.device == "cuda" and layout.data[1] > 1 and not fused
        if distribute and fused:
            raise UserError(fused)
        return MegatronEngine(plan, layout, _engine(config, plan), distribute and plan.optimizer is not None)


def _trained_roles(plan: EnginePlan) -> dict[str, TensorRole]:
    """What is trained, with the learning rates that the initializer's rules give; nothing where it has none."""
    from lmgraft.training import freezing, weights

    from lmgraft_megatron import files

    if plan.optimizer is None or not hasattr(plan.initializer, "lr_scale"):
        return {}
    shapes = files.canonical_shapes(plan)
    trained = freezing.first_rows(plan, shapes)
    roles = weights.tensor_roles(plan.architecture, plan.initializer, shapes)
    return {name: role for name, role in roles.items() if name in trained}


def _engine(config: MegatronConfig, plan: EnginePlan) -> bool:
    """Are the layers to be Transformer Engine's? Its attention over packed documents is made for half precision."""
    there = importlib.util.find_spec("transformer_engine") is not None
    fits = there and plan.device == "cuda" and plan.precision == "bfloat16"
    spec = plan.architecture.spec() if fits else None
    window = spec is not None and spec.window > 0
    if window and config.transformer_engine:
        cause = "this architecture's attention has a sliding window, which is not built for packed documents there"
        raise UserError(Problem("transformer_engine=true cannot be used", cause, "parallelism.transformer_engine=null"))
    if config.transformer_engine and not fits:
        cause = "it runs on CUDA and in bfloat16 only" if there else "it is not installed"
        remedy = "parallelism.transformer_engine=null" + ("" if there else ", or pip install 'lmgraft[te]'")
        raise UserError(Problem("transformer_engine=true cannot be used", cause, remedy))
    return fits and not window and config.transformer_engine is not False


@contextmanager
def _one_connection() -> Iterator[None]:
    """Megatron counts on kernels that start in the order they are issued in, so that sums between ranks overlap with
    products; CUDA reads this when a process first uses it, and ranks inherit it."""
    before = os.environ.get(CONNECTIONS)
    os.environ.setdefault(CONNECTIONS, "1")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(CONNECTIONS, None)


def _ground(device: str) -> Any:
    """Where CUDA is, nothing; on a CPU the redirection of what Megatron asks of CUDA."""
    if device == "cuda":
        return nullcontext()
    from lmgraft_megatron.redirect import on_cpu

    return on_cpu()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _device(work: Any) -> str:
    """The device of the plan that ``work`` will make: a stage's work carries it. Else CUDA where it is."""
    held = [work, *getattr(work, "args", ()), *getattr(work, "keywords", {}).values()]
    found = next((part.device for part in held if isinstance(getattr(part, "device", None), str)), None)
    if found == "mps":
        cause = "megatron-core runs on CUDA, and on a processor for tests and small models"
        raise UserError(Problem("megatron on mps", cause, "device=cpu, or parallelism=single"))
    return found or ("cuda" if _gpus() else "cpu")
