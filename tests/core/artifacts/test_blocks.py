"""Numbers of files, block by block: conversions equal to torch's for every 16-bit pattern, threads that change
nothing, memory of a few blocks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmgraft.artifacts import blocks, checkpoint, streaming
from lmgraft.artifacts.blocks import Blocks, Crew, Files, finite, narrowed, widened
from lmgraft.artifacts.streaming import Computed, zeros
from lmgraft.errors import UserError

KINDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CONFIG = {"model_type": "llama", "num_hidden_layers": 1}


def awkward() -> torch.Tensor:
    """Numbers between two of bfloat16 and float16, in the middle of them, at their ends, and none at all."""
    torch.manual_seed(0)
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    of_bfloat16, of_float16 = every.view(torch.bfloat16).double(), every.view(torch.float16).double()
    middle = [(x[1:] + x[:-1]) / 2 for x in (of_bfloat16, of_float16)]
    random = torch.randn(20_000, dtype=torch.float64) * 10.0 ** torch.randint(-45, 39, (20_000,))
    return torch.cat([of_bfloat16, of_float16, *middle, middle[0] * (1 + 1e-9), middle[1] * (1 - 1e-9), random])


@pytest.mark.parametrize("source", ["F64", "F32"])
@pytest.mark.parametrize("target", KINDS)
def test_numbers_are_rounded_as_torch_rounds_them(source: str, target: str) -> None:
    numbers = awkward().to(KINDS[source])
    told = numbers.to(KINDS[target])
    found = torch.from_numpy(np.ascontiguousarray(narrowed(numbers.numpy().copy(), target))).view(KINDS[target])
    nan = told.isnan()
    assert torch.equal(found.isnan(), nan)
    same = found[~nan].contiguous().view(torch.uint8), told[~nan].contiguous().view(torch.uint8)
    assert torch.equal(*same)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", ["F64", "F32"])
def test_numbers_are_read_exactly(source: str, target: str) -> None:
    if source == "F64" and target == "F32":
        pytest.skip("numbers are float64 where a source is")
    stored = awkward().to(KINDS[source])
    raw = stored.view(torch.int16).numpy().view("<u2") if source == "BF16" else stored.numpy()
    found = widened(raw, source, np.empty(len(raw), blocks.FLOATS[target]))
    assert np.array_equal(found, stored.to(KINDS[target]).numpy(), equal_nan=True)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_seen(dtype: str, spoilt: float) -> None:
    numbers = np.full(1000, 3e4 if dtype == "F16" else 3e38, np.float32)  # of which a sum is infinite, and none is
    assert finite(narrowed(numbers.copy(), dtype), dtype)
    numbers[577] = spoilt
    assert not finite(narrowed(numbers, dtype), dtype)


def model(folder: Path, elements: int = 1000, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    checkpoint.write(folder, {name: torch.randn(elements).to(dtype) for name in ("a", "b")}, CONFIG)
    return folder


def doubled(folder: Path) -> dict[str, Any]:
    def rule(sources: Blocks) -> Any:
        return lambda number, numbers: numbers[0] * 2

    return {name: Computed(piece.dtype, piece.shape, [piece], rule) for name, piece in streaming.pieces(folder).items()}


@pytest.mark.parametrize("dtype", KINDS.values())
@pytest.mark.parametrize("elements", [0, 1, 63, 64, 1000])
def test_tensors_that_are_computed(
    tmp_path: Path, dtype: torch.dtype, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)
    folder = model(tmp_path / "in", elements, dtype)
    plan = {
        **doubled(folder),
        "copy": streaming.pieces(folder)["a"],
        "zero": zeros("BF16", (3, 5)),
        "one": zeros("F32", ()),
    }
    seen: list[tuple[int, int]] = []
    streaming.write(tmp_path / "out", plan, CONFIG, progress=lambda *now: seen.append(now), shard_bytes=3000)
    before, after = checkpoint.tensors(folder), checkpoint.tensors(tmp_path / "out")
    assert all(torch.equal(after[name], before[name] * 2) for name in before)
    assert torch.equal(after["copy"], before["a"])
    assert torch.equal(after["zero"], torch.zeros(3, 5, dtype=torch.bfloat16))
    assert after["one"].shape == ()
    assert seen[-1][0] == seen[-1][1] == sum(tensor.nbytes for tensor in after.values())


@pytest.mark.parametrize("without", ["preadv", "pwrite"])
def test_systems_with_one_position_a_file(tmp_path: Path, without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.delattr(f"os.{without}", raising=False)
    folder = model(tmp_path / "in")
    streaming.write(tmp_path / "out", doubled(folder), CONFIG)
    after = checkpoint.tensors(tmp_path / "out")
    assert all(torch.equal(after[name], tensor * 2) for name, tensor in checkpoint.tensors(folder).items())


def test_blocks_come_in_their_order_and_few_at_once() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def task(number: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.001 * (number % 3))
        with lock:
            under_way -= 1
        return number

    with Crew(3) as crew:
        assert list(crew.each(50, task)) == list(range(50))
    assert 1 < most <= 3


def test_nothing_is_under_way_once_the_answers_are_left() -> None:
    started, ended = [], []

    def task(number: int) -> int:
        started.append(number)
        time.sleep(0.02)
        ended.append(number)
        return number

    with Crew(3) as crew:
        answers = crew.each(50, task)
        assert next(answers) == 0
        answers.close()  # type: ignore[attr-defined]
        assert sorted(started) == sorted(ended)
        assert len(started) < 20


def test_what_a_thread_raises_ends_the_work_and_leaves_no_file(tmp_path: Path) -> None:
    folder = model(tmp_path / "in")
    state = dict(checkpoint.tensors(folder))
    state["b"][700] = float("nan")
    checkpoint.write(folder, state, CONFIG)
    with pytest.raises(UserError, match=r"model\.safetensors: b holds NaN"):
        streaming.write(tmp_path / "out", doubled(folder), CONFIG)
    assert list((tmp_path / "out").iterdir()) == []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streaming.write(tmp_path / "other", doubled(model(tmp_path / "whole")), CONFIG, progress=stop)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_file_that_ends_while_it_is_read(tmp_path: Path) -> None:
    plan = doubled(model(tmp_path / "in"))
    file = tmp_path / "in" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="ended within a tensor"):
        streaming.write(tmp_path / "out", plan, CONFIG)


def test_sources_may_be_looked_at_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 64)
    (piece, *_) = streaming.pieces(model(tmp_path / "in")).values()
    with Files() as files, Crew(2) as crew:
        sources = Blocks([piece], 1000, crew, files)
        assert sources.count == 16
        assert sources.span(15) == (960, 1000)
        sums = sources.each(lambda number, numbers: (number, float(numbers[0].sum(dtype=np.float64))))
    assert [number for number, _ in sums] == list(range(16))
    told = checkpoint.tensors(tmp_path / "in")["a"].double().sum().item()
    assert sum(value for _, value in sums) == pytest.approx(told, abs=1e-6)


def test_neither_needs_torch() -> None:
    code = (
        "import sys, lmgraft.artifacts.blocks, lmgraft_merges.ties, lmgraft_merges.slerp; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
