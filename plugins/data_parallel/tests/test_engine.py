from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch, Loss
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft_data_parallel.engine import SingleEngine
from lmgraft_data_parallel.plugin import SingleConfig
from lmgraft_data_parallel.single import Single


def gradients(engine: SingleEngine) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in engine._module.named_parameters() if p.grad is not None}


def weights(engine: SingleEngine) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine._module.named_parameters()}


def moments(engine: SingleEngine) -> list[torch.Tensor]:
    assert engine._optimizer is not None
    return [tensor for state in engine._optimizer.state.values() for tensor in state.values()]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_is_an_engine(make_plan: Any) -> None:
    engine = SingleEngine(make_plan())
    assert isinstance(engine, Engine)
    assert engine.main
    assert engine.data == (0, 1)
    assert engine.parameters()["embed.weight"] == (48, 32)
    assert "lm_head.weight" not in engine.parameters()


def test_weights_follow_the_seed_and_the_name_alone(make_plan: Any) -> None:
    one, two, other = (SingleEngine(make_plan(seed=seed)) for seed in (1, 1, 2))
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))
    # An untied model has one tensor more; all others are as before.
    more = weights(SingleEngine(make_plan(tied=False, seed=1)))
    assert more.keys() - weights(one).keys() == {"lm_head.weight"}
    assert same({name: more[name] for name in weights(one)}, weights(one))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_microbatches_change_no_gradient(size: int, make_plan: Any, make_batch: Any, split_batch: Any) -> None:
    batch = make_batch([20, 3, 11, 1, 7])
    whole, cut = SingleEngine(make_plan()), SingleEngine(make_plan())
    one = whole.forward_backward([batch])
    other = cut.forward_backward(split_batch(batch, size))
    assert other.loss == pytest.approx(one.loss, rel=1e-6)
    assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-6)
    assert other.metrics["nats"] == pytest.approx(one.metrics["nats"], rel=1e-6)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(cut)[name], gradient, rtol=1e-5, atol=1e-6)


def test_each_term_is_divided_by_its_own_total(make_plan: Any, make_batch: Any) -> None:
    plan, batch = make_plan(), make_batch([20, 3])
    engine = SingleEngine(plan)
    out = next(engine.score(iter([batch]), frozenset({"logprob"})))[1]
    terms = plan.objective.loss(out, batch, {}).terms
    expected = float(terms["tokens"]) / 23 + float(terms["rows"]) / 2
    assert engine.forward_backward([batch]).loss == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_predictions_gives_zero_and_not_nan(make_plan: Any, make_batch: Any) -> None:
    batch = make_batch([4])
    batch.targets.fill_(-1)
    batch.weights.zero_()
    stats = SingleEngine(make_plan()).forward_backward([batch])
    assert (stats.loss, stats.grad_norm) == (0.0, 0.0)


def test_grad_norm_is_global_and_clipping_scales_to_it(make_plan: Any, make_batch: Any) -> None:
    batch = make_batch([20, 9])
    engine = SingleEngine(make_plan())
    stats = engine.forward_backward([batch])
    before = gradients(engine)
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm().item()
    assert stats.grad_norm == pytest.approx(norm, rel=1e-6)
    assert norm > 0.1
    # An optimizer that only subtracts shows the gradient it was given.
    clipped = SingleEngine(make_plan(clip=0.1, optimizer=Plain()))
    start = weights(clipped)
    clipped.forward_backward([batch])
    clipped.apply(1.0)
    for name, after in weights(clipped).items():
        torch.testing.assert_close(start[name] - after, before[name] * (0.1 / norm), rtol=1e-3, atol=1e-6)


class Plain:
    def peak(self) -> float:
        return 1.0

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD([parameter for _, parameter, _ in parameters], lr=0.0)


def test_the_rate_of_a_group_is_scaled(make_plan: Any, make_batch: Any) -> None:
    engine = SingleEngine(make_plan())
    engine.forward_backward([make_batch([5])])
    engine.apply(0.02)
    assert engine._optimizer is not None
    assert [group["lr"] for group in engine._optimizer.param_groups] == [0.02, 0.01]


def test_discard_leaves_weights_and_the_next_gradient_alone(make_plan: Any, make_batch: Any) -> None:
    engine, fresh = SingleEngine(make_plan()), SingleEngine(make_plan())
    start = weights(engine)
    engine.forward_backward([make_batch([5], seed=1)])
    engine.discard()
    assert same(weights(engine), start)
    engine.forward_backward([make_batch([7], seed=2)])
    fresh.forward_backward([make_batch([7], seed=2)])
    assert same(gradients(engine), gradients(fresh))


class Prepared:
    """Its loss weighs each microbatch by a statistic of all of them."""

    asks = frozenset({"logprob"})

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch.weights.sum())}

    def prepare(self, out: Outputs, batch: Batch) -> dict[str, Any]:
        assert out.logprob is not None
        assert not out.logprob.requires_grad
        return {"sum": out.logprob.sum(), "rows": len(batch.tokens)}

    def loss(self, out: Outputs, batch: Batch, shared: Any) -> Loss:
        assert out.logprob is not None
        return Loss({"tokens": (out.logprob * (shared["sum"] / shared["rows"])).sum()})


def test_prepare_sees_the_whole_batch_first(make_plan: Any, make_batch: Any, split_batch: Any) -> None:
    batch = make_batch([8, 8, 8])
    plan = make_plan(objective=Prepared())
    whole, cut = SingleEngine(plan), SingleEngine(plan)
    whole.forward_backward([batch])
    cut.forward_backward(split_batch(batch, 1))
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(cut)[name], gradient, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_float32_weights_and_comes_close(make_plan: Any, make_batch: Any) -> None:
    batch = make_batch([20, 9])
    full, half = SingleEngine(make_plan()), SingleEngine(make_plan(precision="bfloat16"))
    exact, rough = full.forward_backward([batch]).loss, half.forward_backward([batch]).loss
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.02)
    half.apply(0.01)
    assert {tensor.dtype for tensor in [*weights(half).values(), *moments(half)]} == {torch.float32}


def test_saved_and_loaded_it_goes_on_bit_for_bit(make_plan: Any, make_batch: Any, tmp_path: Path) -> None:
    def step(engine: SingleEngine, number: int) -> None:
        engine.forward_backward([make_batch([12, 5], seed=number)])
        engine.apply(0.01)

    straight = SingleEngine(make_plan())
    for number in range(3):
        step(straight, number)
    straight.save(tmp_path)
    resumed = SingleEngine(make_plan(seed=99))
    resumed.load(tmp_path)
    for number in range(3, 6):
        step(straight, number)
        step(resumed, number)
    assert same(weights(straight), weights(resumed))


def test_files_are_named_by_parameter_and_the_same_each_time(make_plan: Any, make_batch: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        engine = SingleEngine(make_plan())
        engine.forward_backward([make_batch([12])])
        engine.apply(0.01)
        engine.save(tmp_path / folder)
    from safetensors import safe_open

    with safe_open(tmp_path / "a/optimizer.safetensors", "pt") as stored:
        names = set(stored.keys())
    assert {"embed.weight.exp_avg", "embed.weight.exp_avg_sq", "embed.weight.step"} <= names
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_checkpoint_of_another_architecture_is_refused(make_plan: Any, tmp_path: Path) -> None:
    SingleEngine(make_plan(vocab_size=50)).save(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        SingleEngine(make_plan()).load(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_export_is_a_model_folder_to_start_from(tied: bool, make_plan: Any, tmp_path: Path) -> None:
    engine = SingleEngine(make_plan(tied=tied))
    engine.export(tmp_path)
    checkpoint.verify(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 48
    assert ("lm_head.weight" in checkpoint.tensors(tmp_path)) is not tied
    again = SingleEngine(make_plan(tied=tied, weights=tmp_path, initializer=None, seed=77))
    assert same(weights(again), weights(engine))


def test_a_device_that_is_not_there_is_refused(make_plan: Any) -> None:
    with pytest.raises(UserError, match="device tpu"):
        SingleEngine(make_plan(device="tpu"))


def test_launch_works_in_place_and_puts_the_settings_back() -> None:
    seen: list[Any] = []

    def work(make_engine: Any) -> None:
        seen.extend([make_engine, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()])
        raise KeyError("of the work")

    before = torch.get_num_threads()
    with pytest.raises(KeyError, match="of the work"):
        Single(SingleConfig(threads=before + 1)).launch(work)
    assert seen == [SingleEngine, before + 1, True]
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_threads_are_checked() -> None:
    assert list(SingleConfig(threads=2).check()) == []
    assert len(list(SingleConfig(threads=0).check())) == 1


def test_compiled_it_gives_the_same_loss_and_the_same_names(make_plan: Any, make_batch: Any) -> None:
    plan: EnginePlan = make_plan()
    compiled = SingleEngine(make_plan(compile=True))
    compiled._forward = torch.compile(compiled._module, backend="eager")  # type: ignore[assignment]
    batch = make_batch([12])
    assert compiled.forward_backward([batch]).loss == pytest.approx(
        SingleEngine(plan).forward_backward([batch]).loss, rel=1e-6
    )
    assert compiled.parameters() == SingleEngine(plan).parameters()
