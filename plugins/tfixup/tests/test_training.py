"""What T-Fixup is for: without norms, without warm-up, at a constant rate, deep models train where Xavier diverges.

Through the parts that recipes take, on real text (Python's own documentation), width 64, bytes as tokens. The figures
of longer runs are in docs/tfixup.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import TensorRole
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import weights
from torch import nn

V, ROWS, LENGTH = 256, 8, 64
WIDTH: dict[str, Any] = {"hidden": 64, "heads": 4, "context": LENGTH, "norm": "none"}
FAMILIES: dict[str, dict[str, Any]] = {"gpt2": {"mlp": 256}, "llama": {"mlp": 172}}


def part(seam: str, name: str, **settings: Any) -> Any:
    """A part as a recipe gets it: by its name, through the registry."""
    component = registry().get(seam, name).component
    default = component.config()
    typed = {
        key: type(getattr(default, key))(value) if hasattr(getattr(default, key), "name") else value
        for key, value in settings.items()
    }
    return build(component, component.config(**typed))


def architecture(family: str, depth: int) -> Any:
    return part("architecture", family, layers=depth, **WIDTH, **FAMILIES[family])


class Descent:
    """Plain gradient descent, the update that the paper's theorem is about."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def peak(self) -> float:
        return self.rate

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        return torch.optim.SGD([parameter for _, parameter, _ in parameters], lr=self.rate)


@pytest.fixture(scope="module")
def text() -> torch.Tensor:
    topics = pytest.importorskip("pydoc_data.topics").topics
    joined = "\n".join(topics[name] for name in sorted(topics))
    return torch.frombuffer(bytearray(joined.encode()), dtype=torch.uint8).long()


@pytest.fixture(scope="module")
def unigram(text: torch.Tensor) -> float:
    """Nats a byte for who knows nothing but how often each byte comes."""
    shares = torch.bincount(text, minlength=V).double() / len(text)
    return float(torch.special.entr(shares).sum())


def draw(text: torch.Tensor, seed: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(100_003 * seed + step)
    starts = torch.randint(0, len(text) - LENGTH - 1, (ROWS,), generator=generator)
    rows = text[starts[:, None] + torch.arange(LENGTH + 1)]
    positions = torch.arange(LENGTH).expand(ROWS, -1)
    return Batch(
        tokens=rows[:, :-1],
        targets=rows[:, 1:],
        weights=torch.ones(ROWS, LENGTH),
        positions=positions,
        segments=torch.zeros_like(positions),
    )


def trained(
    text: torch.Tensor,
    family: str,
    depth: int,
    initializer: str,
    optimizer: Any,
    steps: int,
    seeds: int = 3,
    embedding: float | None = None,
) -> list[float]:
    """The last ten steps' mean loss for each seed; NaN where a loss or a gradient was not finite."""
    ends: list[float] = []

    def work(make_engine: Callable[[EnginePlan], Any]) -> None:
        for seed in range(seeds):
            engine = make_engine(
                EnginePlan(
                    architecture=architecture(family, depth),
                    vocab_size=V,
                    device="cpu",
                    precision="float32",
                    seed=seed,
                    initializer=part("initializer", initializer, embedding=embedding),
                    objective=part("objective", "causal_lm"),
                    optimizer=optimizer,
                )
            )
            ends.append(_end(engine, text, seed, steps, optimizer.peak()))

    part("parallelism", "single", threads=1).launch(work)
    return ends


def _end(engine: Any, text: torch.Tensor, seed: int, steps: int, rate: float) -> float:
    losses = []
    for step in range(steps):
        stats = engine.forward_backward([draw(text, seed, step)])
        if not math.isfinite(stats.loss + stats.grad_norm):
            return math.nan
        losses.append(stats.loss)
        engine.apply(rate)
    return sum(losses[-10:]) / 10


def diverged(end: float) -> bool:
    """Worse than knowing nothing at all, or no number any more."""
    return not end < math.log(V)


def adamw() -> Any:
    """The paper's own rate for IWSLT, from the first step on."""
    return part("optimizer", "adamw", lr=5e-4, weight_decay=0.0)


def test_four_layers_under_plain_descent(text: torch.Tensor) -> None:
    ends = trained(text, "gpt2", 4, "tfixup", Descent(0.2), 40)
    assert all(end < 3.8 for end in ends), ends
    ends = trained(text, "gpt2", 4, "xavier", Descent(0.2), 40)
    assert sum(map(diverged, ends)) >= 2, ends


def test_four_layers_under_adam_with_fairseqs_embeddings(text: torch.Tensor) -> None:
    """At the scale at which fairseq's Transformers see their embeddings Xavier diverges at four layers already."""
    ends = trained(text, "gpt2", 4, "tfixup", adamw(), 60, embedding=1.0)
    assert all(end < 3.6 for end in ends), ends
    ends = trained(text, "gpt2", 4, "xavier", adamw(), 60, embedding=1.0)
    assert sum(map(diverged, ends)) >= 2, ends


@pytest.mark.parametrize("family", list(FAMILIES))
def test_sixteen_layers_under_adam(text: torch.Tensor, family: str) -> None:
    ends = trained(text, family, 16, "xavier", adamw(), 10)
    assert sum(map(diverged, ends)) >= 2, ends
    (end,) = trained(text, family, 16, "tfixup", adamw(), 60, seeds=1)  # docs/tfixup.md has three, and longer ones
    assert end < 3.7


@pytest.mark.slow
@pytest.mark.parametrize("family", list(FAMILIES))
def test_forty_eight_layers_under_adam(text: torch.Tensor, unigram: float, family: str) -> None:
    ends = trained(text, family, 48, "xavier", adamw(), 10)
    assert sum(map(diverged, ends)) >= 2, ends
    (end,) = trained(text, family, 48, "tfixup", adamw(), 100, seeds=1, embedding=1.0)
    assert end < unigram


@pytest.mark.parametrize("initializer", ["tfixup", "xavier"])
def test_one_step_moves_the_output_alike_at_any_depth(text: torch.Tensor, initializer: str) -> None:
    """The paper's definition (section 3.1): an update at rate eta changes the output by Theta(eta), whatever N is."""
    moved = {depth: _moved(text, depth, initializer) for depth in (4, 8, 32)}
    if initializer == "tfixup":
        assert max(moved.values()) < 1.5 * min(moved.values()), moved
    else:
        assert not moved[8] < 100 * moved[4], moved


def _moved(text: torch.Tensor, depth: int, initializer: str) -> float:
    """|change of the log-probabilities| / eta for one step of gradient descent, in float64. Of llama: it has no
    biases, which the theorem leaves out, and a head of its own."""
    part_of = architecture("llama", depth)
    module = weights.materialise(part_of, V, "cpu")
    weights.initialise(module, part_of, part("initializer", initializer), 0)
    module.double()
    batch, eta = draw(text, 0, 0), 1e-6
    every = torch.arange(V).expand(ROWS, LENGTH, V)
    (-module(batch.tokens, targets=batch.targets, asks={"logprob"}).logprob.mean()).backward()
    with torch.no_grad():
        before = module(batch.tokens, targets=every, asks={"logprob"}).logprob
        for parameter in module.parameters():
            parameter.sub_(eta * parameter.grad)
        after = module(batch.tokens, targets=every, asks={"logprob"}).logprob
    return float((after - before).norm(dim=-1).mean()) / eta
