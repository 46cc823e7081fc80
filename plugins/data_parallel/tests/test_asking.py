"""Engines that only ask: the module made for writing, 8-bit weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Outputs, Role, TensorRole
from lmgraft.seams.parallelism import BatchingHandle, EnginePlan, Sampling
from lmgraft.training.int8 import Int8Linear
from lmgraft_data_parallel.engine import SingleEngine
from torch import nn

GREEDY = Sampling(max_new_tokens=12, temperature=0)


class Writer(nn.Module):
    """Counts what it is asked."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain, self.asked = (plain,), 0  # no submodule: that would be a circle
        self.half = torch.is_autocast_enabled("cpu")

    def forward(self, *args: Any, **given: Any) -> Outputs:
        self.asked += 1
        return self.plain[0](*args, **given)


class WritingArchitecture:
    """The tests' own tiny transformer, with a module made for writing."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        module = self.plain.build(vocab_size, device)
        module.made = []

        def generation() -> nn.Module:
            module.made.append(Writer(module))
            return module.made[-1]

        module.generation = generation
        return module

    def role(self, name: str) -> TensorRole:
        into = {"qkv.weight": Role.QUERY, "out.weight": Role.ATTENTION_OUT, "mlp.0.weight": Role.MLP_IN}
        return TensorRole(into[name]) if name in into else self.plain.role(name)


def asking(make_plan: Any, **changes: Any) -> EnginePlan:
    return make_plan(architecture=writing(make_plan), objective=None, optimizer=None, **changes)


def writing(make_plan: Any) -> WritingArchitecture:
    return WritingArchitecture(make_plan().architecture)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_module_made_for_writing_is_made_once_and_inside_autocast(make_plan: Any, precision: str) -> None:
    engine = SingleEngine(asking(make_plan, precision=precision))
    assert engine.handle() is engine.handle()
    list(engine.handle().generate([1, 2], GREEDY))
    list(engine.handle().generate([1, 2], GREEDY))
    [writer] = engine._module.made
    assert writer.asked == 24
    assert writer.half == (precision == "bfloat16")
    engine.handle().score([([1], [2])])
    assert writer.asked == 24


def test_an_engine_that_trains_writes_with_its_live_module(make_plan: Any) -> None:
    engine = SingleEngine(make_plan(architecture=writing(make_plan)))
    handle = engine.handle()
    before = list(handle.generate([1, 2], GREEDY))
    with torch.no_grad():
        engine._module.lm_head.weight.neg_()
    assert list(handle.generate([1, 2], GREEDY)) != before
    assert not engine._module.made


def test_weights_loaded_later_are_those_that_write(make_plan: Any, tmp_path: Path) -> None:
    other = SingleEngine(make_plan(architecture=writing(make_plan), seed=9))
    other.save(tmp_path)
    engine = SingleEngine(asking(make_plan))
    before = list(engine.handle().generate([1, 2], GREEDY))
    engine.load(tmp_path)
    assert list(engine.handle().generate([1, 2], GREEDY)) != before
    assert len(engine._module.made) == 2


def test_a_batch_of_texts_from_the_handle(make_plan: Any) -> None:
    handle = SingleEngine(asking(make_plan)).handle()
    assert isinstance(handle, BatchingHandle)
    prompts = [[1], [2, 3, 4], [5] * 20]
    sampling = Sampling(max_new_tokens=30, temperature=0.9, top_p=0.9, seed=4)
    texts = handle.decoding()
    made: dict[int, list[int]] = {texts.add(prompt, sampling): [] for prompt in prompts}
    while len(texts):
        for number, token, _ in texts.step():
            made[number].append(token)
    assert list(made.values()) == [list(handle.generate(prompt, sampling)) for prompt in prompts]
    assert len(made[2]) == handle.context - 20 + 1


def test_int8_weights_answer_nearly_the_same(make_plan: Any) -> None:
    exact, rounded = SingleEngine(asking(make_plan)), SingleEngine(asking(make_plan, precision="int8"))
    kinds = {name for name, part in rounded._module.named_modules() if isinstance(part, Int8Linear)}
    assert kinds == {"qkv", "out", "mlp.0"}
    request = [([3, 1, 4], [1, 5, 9, 2, 6, 5, 3, 5])]
    [wanted], [told] = exact.handle().score(request), rounded.handle().score(request)
    assert wanted.logprobs == pytest.approx(told.logprobs, abs=0.15)
    assert wanted.logprobs != told.logprobs


def test_int8_is_for_asking_only(make_plan: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training with precision=int8"):
        SingleEngine(make_plan(precision="int8"))
    with pytest.raises(UserError, match="is not exported"):
        SingleEngine(asking(make_plan, precision="int8")).export(tmp_path)
