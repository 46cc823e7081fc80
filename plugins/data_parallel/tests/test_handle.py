from __future__ import annotations

from typing import Any

import pytest
import torch
from lmgraft.seams.parallelism import ModelHandle, Sampling
from lmgraft.training import handle as handles
from lmgraft_data_parallel.engine import SingleEngine

CONTEXT = 32


@pytest.fixture
def engine(make_plan: Any) -> SingleEngine:
    return SingleEngine(make_plan(objective=None, optimizer=None))


def logits(engine: SingleEngine, ids: list[int]) -> torch.Tensor:
    """After every position, from one pass over the whole, position by position, without cache or padding."""
    with torch.no_grad():
        rows = [
            engine._module(torch.tensor([ids[: end + 1]]), asks=frozenset({"next_logits"})).next_logits[0]
            for end in range(len(ids))
        ]
    return torch.stack(rows)


def test_it_is_a_handle(engine: SingleEngine) -> None:
    assert isinstance(engine.handle(), ModelHandle)
    assert engine.handle().context == CONTEXT


def test_scores_are_those_of_each_request_alone_and_in_order(
    engine: SingleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    requests = []
    for _ in range(40):
        ids = torch.randint(0, 48, (int(torch.randint(1, CONTEXT + 2, (), generator=generator)),), generator=generator)
        cut = int(torch.randint(1, len(ids) + 1, (), generator=generator))
        requests.append((ids[:cut].tolist(), ids[cut:].tolist()))
    requests[7] = (requests[7][0], [])
    together = engine.handle().score(requests)
    monkeypatch.setattr(handles, "PASS_TOKENS", 1)
    alone = engine.handle().score(requests)
    for (prefix, continuation), one, other in zip(requests, together, alone, strict=True):
        assert len(one.logprobs) == len(continuation)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        if not continuation:
            continue
        ids = [*prefix, *continuation]
        expected = logits(engine, ids[:-1]).log_softmax(-1)[len(prefix) - 1 :]
        picked = expected.gather(1, torch.tensor(continuation)[:, None])[:, 0]
        assert one.logprobs == pytest.approx(picked.tolist(), abs=1e-5)
        assert one.greedy == (expected.argmax(-1) == torch.tensor(continuation)).tolist()


def test_passes_stay_within_their_size(engine: SingleEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PASS_TOKENS", 64)
    shapes: list[tuple[int, ...]] = []
    engine._module.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    engine.handle().score([([1] * length, [2]) for length in range(1, 33)])
    assert sum(rows for rows, _ in shapes) == 32
    assert all(rows * width <= 64 for rows, width in shapes)
    assert len(shapes) < 20


def test_what_does_not_fit_is_refused(engine: SingleEngine) -> None:
    handle = engine.handle()
    assert len(handle.score([([1] * CONTEXT, [2])])[0].logprobs) == 1
    with pytest.raises(ValueError, match="32 \\+ 1"):
        handle.score([([1] * CONTEXT, [2, 3])])
    with pytest.raises(ValueError, match="prefix needs one"):
        handle.score([([], [2])])


def test_greedy_text_with_the_cache_is_that_without(engine: SingleEngine) -> None:
    ids = [5, 9, 2]
    made = list(engine.handle().generate(ids, Sampling(max_new_tokens=20, temperature=0)))
    assert len(made) == 20
    for token in made:
        assert token == int(logits(engine, ids)[-1].argmax())
        ids.append(token)


def test_a_module_without_a_cache_gives_the_same_text(engine: SingleEngine) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=0.9, seed=4)
    cached = list(engine.handle().generate([5, 9], sampling))
    engine._module.register_forward_hook(lambda module, args, out: setattr(out, "cache", None))
    assert list(engine.handle().generate([5, 9], sampling)) == cached


def test_text_ends_at_a_stop_id_and_at_the_context(engine: SingleEngine) -> None:
    handle = engine.handle()
    free = list(handle.generate([5], Sampling(max_new_tokens=100, temperature=0)))
    assert len(free) == CONTEXT  # 1 + 31 are read, the last one is only predicted
    stop = free[4]
    ended = list(handle.generate([5], Sampling(max_new_tokens=100, temperature=0, stop_ids=(stop,))))
    assert ended == free[: free.index(stop) + 1]
    assert list(handle.generate([5], Sampling(max_new_tokens=3, temperature=0))) == free[:3]
    assert list(handle.generate([5], Sampling(max_new_tokens=0))) == []


def test_a_long_prompt_is_cut_at_its_left(engine: SingleEngine) -> None:
    prompt = [int(i) % 48 for i in range(100)]
    sampling = Sampling(max_new_tokens=4, temperature=0)
    assert list(engine.handle().generate(prompt, sampling)) == list(engine.handle().generate(prompt[-16:], sampling))


def test_one_seed_gives_one_text(engine: SingleEngine) -> None:
    def text(seed: int) -> list[int]:
        torch.rand(3)  # the global generator plays no part
        return list(engine.handle().generate([1], Sampling(max_new_tokens=20, temperature=1.0, seed=seed)))

    assert text(1) == text(1)
    assert text(1) != text(2)
