from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmgraft.errors import Fault, Problem, Stopped, UserError
from lmgraft.seams.architecture import Outputs, Role, TensorRole
from lmgraft.seams.objective import Batch, Loss
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import checkpoint
from lmgraft.training import loop as loops
from lmgraft.training.loop import LoopPlan, train
from lmgraft.training.validation import MixedValidation, Validation
from lmgraft_data_parallel.engine import SingleEngine
from torch import nn

V = 12


class Bigram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(V, V)
        self.drop = nn.Dropout(0.2)

    def forward(self, tokens: torch.Tensor, *, targets: torch.Tensor, asks: Any, **unused: Any) -> Outputs:
        logits = self.drop(self.table(tokens)).log_softmax(-1)
        return Outputs(logprob=logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets < 0, 0))


class Architecture:
    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        with torch.device(device):
            return Bigram()

    def role(self, name: str) -> TensorRole:
        return TensorRole(Role.OTHER)

    def spec(self) -> None:
        return None


class Zeros:
    def fill(self, tensor: torch.Tensor, *others: Any) -> None:
        tensor.zero_()


class Objective:
    """Cross entropy; not a number where a batch says so in its values."""

    asks = frozenset({"logprob"})

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch.weights.sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Any) -> Loss:
        assert out.logprob is not None
        poison = batch.values["poison"].sum()
        return Loss({"tokens": -(out.logprob * batch.weights).sum() * poison}, {"loss": (9.0, 1.0), "rows": (4.0, 2.0)})


class Optimizer:
    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([parameter for _, parameter, _ in parameters], lr=0.0)


class Batches:
    """Step s reads rows drawn from seed s; steps in ``poisoned`` give a loss that is not a number."""

    def __init__(self, poisoned: Sequence[int] = ()) -> None:
        self.poisoned = poisoned
        self.asked: list[tuple[int, int, int, int | None]] = []

    def tokens(self, step: int) -> int:
        return 32

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> list[Batch]:
        self.asked.append((step, rank, size, micro_batch))
        return [rows(step, float("nan") if step in self.poisoned else 1.0)]


def rows(seed: int, poison: float = 1.0) -> Batch:
    start = torch.randint(0, V, (4, 1), generator=torch.Generator().manual_seed(seed))
    ids = (start + torch.arange(9)) % V  # something to learn: the next id is this one plus one
    return Batch(
        tokens=ids[:, :-1].clone(),
        targets=ids[:, 1:].clone(),
        weights=torch.ones(4, 8),
        positions=torch.arange(8).expand(4, -1),
        values={"poison": torch.tensor([poison])},
    )


class Told:
    """Keeps what the loop says; stops it after so many steps."""

    def __init__(self, stop_after: int = -1, error: Exception | None = None) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.begun: list[int] = []
        self.steps: list[int] = []
        self.checkpoints: list[int] = []
        self.stop_after, self.error = stop_after, error or Stopped("a signal")

    def begin(self, step: int) -> None:
        self.begun.append(step)

    def row(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def progress(self, step: int, shown: Mapping[str, Any]) -> None:
        self.steps.append(step)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpoint(self, step: int, path: Path) -> None:
        assert checkpoint.damage(path) is None
        self.checkpoints.append(step)

    def alive(self) -> None:
        if self.steps and self.steps[-1] == self.stop_after:
            raise self.error


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Told, SingleEngine]]:
    def start(
        told: Told | None = None, batches: Batches | None = None, validation: Validation | None = None, **changes: Any
    ) -> tuple[Told, SingleEngine]:
        settings: dict[str, Any] = {
            "steps": 10,
            "peak": 0.1,
            "factor": lambda step, steps: 1 - step / steps,
            "seed": 5,
            "checkpoints": tmp_path / "checkpoints",
        }
        architecture: Any = Architecture()
        objective: Any = Objective()
        optimizer: Any = Optimizer()
        engine = SingleEngine(
            EnginePlan(architecture, V, "cpu", "float32", 0, None, Zeros(), objective, optimizer, clip=1.0)
        )
        told = told or Told()
        train(engine, batches or Batches(), validation, LoopPlan(**(settings | changes)), told)
        return told, engine

    return start


def table(engine: SingleEngine) -> torch.Tensor:
    return engine._module.get_parameter("table.weight").detach().clone()


def steps(told: Told, key: str) -> list[int]:
    return [row["step"] for row in told.rows if key in row]


def test_rows_say_what_happened(run: Any) -> None:
    batches = Batches()
    told, _ = run(batches=batches, micro_batch=3)
    assert batches.asked == [(step, 0, 1, 3) for step in range(10)]
    assert steps(told, "loss") == list(range(1, 11))
    first, last = told.rows[0], told.rows[-1]
    assert first["loss"] == pytest.approx(math.log(V), abs=1e-5)  # the loop's figure, not the metric of that name
    assert first["rows"] == 2.0
    assert (first["tokens"], last["tokens"]) == (32, 320)
    assert (first["lr"], last["lr"]) == (pytest.approx(0.1), pytest.approx(0.01))
    assert last["loss"] < first["loss"]
    assert first["grad_norm"] > 0
    assert first["tokens_per_second"] > 0
    assert all(0 <= row["data_wait"] <= 1 for row in told.rows)
    assert told.begun == [0]
    assert told.steps == list(range(1, 11))


@pytest.mark.parametrize(("every", "logged"), [(1, list(range(1, 11))), (4, [4, 8, 10]), (100, [10])])
def test_log_every_always_tells_the_last_step(every: int, logged: list[int], run: Any) -> None:
    assert steps(run(log_every=every)[0], "loss") == logged


@pytest.mark.parametrize(("every", "expected"), [(0, [0, 10]), (4, [0, 4, 8, 10]), (10, [0, 10])])
def test_held_out_loss_before_between_and_after(every: int, expected: list[int], run: Any) -> None:
    told, _ = run(validation=Validation(lambda: [rows(100)], [1] * V), validate_every=every)
    assert steps(told, "val_loss") == expected
    assert told.rows[0]["val_loss"] == pytest.approx(math.log(V), abs=1e-6)
    assert told.rows[0]["val_bits_per_byte"] == pytest.approx(math.log2(V), abs=1e-6)
    assert told.rows[-1]["val_loss"] < told.rows[0]["val_loss"]


def test_special_tokens_count_in_the_loss_and_not_in_bits_per_byte(run: Any) -> None:
    lengths = [0, 1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1]
    batch = rows(1)
    batch.targets[0, :3] = -1
    batch.weights[1, 0] = 0
    engine = run()[1]
    row = Validation(lambda: [batch, rows(2)], lengths).run(engine)
    logs = table(engine).log_softmax(-1)
    nats = count = text = size = 0.0
    for one in (batch, rows(2)):
        for token, target, weight in zip(
            one.tokens.flatten().tolist(), one.targets.flatten().tolist(), one.weights.flatten().tolist(), strict=True
        ):
            if target < 0 or not weight:
                continue
            nats -= float(logs[token, target])
            count += 1
            if lengths[target]:
                text -= float(logs[token, target])
                size += lengths[target]
    assert row["val_loss"] == pytest.approx(nats / count, rel=1e-6)
    assert row["val_bits_per_byte"] == pytest.approx(text / math.log(2) / size, rel=1e-6)


def test_a_mixture_counts_each_source_as_what_it_holds_out(run: Any) -> None:
    """However little of it is scored: one batch of 32 tokens here of each, of 900 and of 100."""
    engine = run()[1]
    lengths = [1 + token % 3 for token in range(V)]
    one, two = (Validation(lambda seed=seed: [rows(seed)], lengths) for seed in (1, 2))
    row = MixedValidation({"one": one, "two": two}, {"one": 900, "two": 100}).run(engine)
    first, second = one.run(engine), two.run(engine)
    for name in ("val_loss", "val_bits_per_byte"):
        assert (row[f"{name}_one"], row[f"{name}_two"]) == (first[name], second[name])
    assert first["val_loss"] != second["val_loss"]
    assert row["val_loss"] == pytest.approx(0.9 * first["val_loss"] + 0.1 * second["val_loss"])
    sizes = [share * sum(lengths[token] for token in rows(seed).targets.flatten()) for share, seed in ((9, 1), (1, 2))]
    bits = sum(size * part["val_bits_per_byte"] for size, part in zip(sizes, (first, second), strict=True))
    assert row["val_bits_per_byte"] == pytest.approx(bits / sum(sizes))
    assert len(row) == 6


def test_a_step_that_is_not_finite_is_skipped(run: Any) -> None:
    told, engine = run(batches=Batches(poisoned=[2, 3, 6]), skip_nonfinite=2)
    assert steps(told, "skipped") == [3, 4, 7]
    assert all("loss" not in row and "grad_norm" not in row for row in told.rows if "skipped" in row)
    assert bool(torch.isfinite(table(engine)).all())


def test_too_many_in_a_row_end_the_run(run: Any) -> None:
    with pytest.raises(UserError, match=r"lr = 0\.05") as caught:
        run(batches=Batches(poisoned=[3, 4, 5]), skip_nonfinite=2)
    text = caught.value.render()
    assert len(text.splitlines()) == 3
    assert "at step 6: 3 steps in a row" in text


def test_a_run_that_never_stepped_is_an_error(run: Any) -> None:
    with pytest.raises(UserError, match="diverged"):
        run(batches=Batches(poisoned=range(10)), skip_nonfinite=100)


def test_stopped_it_saves_and_goes_on_bit_for_bit(run: Any, tmp_path: Path) -> None:
    whole, expected = run(checkpoints=tmp_path / "other", batches=Batches(poisoned=[1, 4]))
    told = Told(stop_after=5)
    with pytest.raises(Stopped):
        run(told, Batches(poisoned=[1, 4]))
    assert told.checkpoints == [5]
    batches = Batches(poisoned=[1, 4])
    again, engine = run(batches=batches)
    assert again.begun == [5]
    assert [step for step, *_ in batches.asked] == [5, 6, 7, 8, 9]
    assert torch.equal(table(engine), table(expected))
    timeless = [
        {key: value for key, value in row.items() if key not in ("tokens_per_second", "data_wait")}
        for row in whole.rows
    ]
    resumed = [
        {key: value for key, value in row.items() if key not in ("tokens_per_second", "data_wait")}
        for row in told.rows + again.rows
    ]
    assert resumed == timeless


class Slow(Batches):
    """Takes longer to read than the step takes to compute."""

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> list[Batch]:
        time.sleep(0.05)
        return super().microbatches(step, rank, size, micro_batch)


def test_waiting_for_data_is_told_and_changes_nothing(run: Any, tmp_path: Path) -> None:
    fast, expected = run(checkpoints=tmp_path / "other")
    slow, engine = run(batches=Slow(), log_every=2)
    assert torch.equal(table(engine), table(expected))
    assert min(row["data_wait"] for row in slow.rows) > 0.1
    assert [row["loss"] for row in slow.rows] == [row["loss"] for row in fast.rows[1::2]]


class Missing(Batches):
    """A file that is gone by step 4."""

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> list[Batch]:
        if step == 4:
            raise UserError(Problem("train.bin is missing", "it was there", "bring it back"))
        return super().microbatches(step, rank, size, micro_batch)


def test_an_error_of_the_loader_comes_after_the_steps_before_it(run: Any) -> None:
    told = Told()
    with pytest.raises(UserError, match=r"train\.bin is missing"):
        run(told, Missing())
    assert told.steps == [1, 2, 3, 4]


def test_a_streak_of_skipped_steps_survives_a_stop(run: Any) -> None:
    poisoned = Batches(poisoned=range(3, 10))
    with pytest.raises(Stopped):
        run(Told(stop_after=5), poisoned, skip_nonfinite=4)
    with pytest.raises(UserError, match="at step 8: 5 steps in a row"):
        run(batches=poisoned, skip_nonfinite=4)


def test_taken_over_it_saves_nothing(run: Any, tmp_path: Path) -> None:
    with pytest.raises(Fault, match="taken over"):
        run(Told(stop_after=5, error=Fault("taken over")))
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_checkpoints_come_when_asked_and_at_the_end(run: Any, tmp_path: Path) -> None:
    told, engine = run(checkpoint_every=4, keep_checkpoints=2)
    assert told.checkpoints == [4, 8, 10]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000008", "step-00000010"]
    # A finished run has nothing to do, and keeps what it has.
    again, same = run(checkpoint_every=4)
    assert (again.rows, again.checkpoints, again.begun) == ([], [], [10])
    assert torch.equal(table(same), table(engine))


def test_the_cadence_is_of_time_and_bounded_by_its_cost(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 10))
    fake = SimpleNamespace(monotonic=lambda: float(next(clock)), perf_counter=time.perf_counter)
    monkeypatch.setattr(loops, "time", fake)
    told, _ = run(steps=60)
    # A look at the clock costs 10 s here, and so does a save: one in 20 x 10 s, not one in 60.
    gaps = [later - earlier for earlier, later in zip(told.checkpoints[1:], told.checkpoints[2:-1], strict=False)]
    assert told.checkpoints[0] < 10
    assert gaps
    assert min(gaps) >= 19


def test_a_damaged_checkpoint_costs_only_the_way_back(run: Any, tmp_path: Path) -> None:
    expected = run(checkpoints=tmp_path / "other")[1]
    with pytest.raises(Stopped):
        run(Told(stop_after=7), checkpoint_every=3)
    (tmp_path / "checkpoints/step-00000007/model.safetensors").write_bytes(b"rotten")
    told, engine = run()
    assert told.begun == [6]
    assert any("step-00000007 is damaged" in note for note in told.notes)
    assert torch.equal(table(engine), table(expected))


def test_another_number_of_threads_is_told(run: Any) -> None:
    before = torch.get_num_threads()
    with pytest.raises(Stopped):
        run(Told(stop_after=2))
    try:
        torch.set_num_threads(before + 1)
        told, _ = run()
    finally:
        torch.set_num_threads(before)
    assert any("threads" in note for note in told.notes)
