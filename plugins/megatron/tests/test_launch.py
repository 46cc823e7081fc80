from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft_megatron import megatron
from lmgraft_megatron.plugin import MegatronConfig
from lmgraft_megatron.redirect import on_cpu
from megatron_cases import Ask, part


def test_cuda_by_name_is_the_cpu_inside_and_not_outside() -> None:
    if torch.cuda.is_available():
        pytest.skip("the redirection is for machines without CUDA")
    before = torch.cuda.current_device
    with on_cpu():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.ones(2).to(device="cuda:0").device.type == "cpu"
        assert torch.empty(1, device=torch.cuda.current_device()).device.type == "cpu"
        assert torch.ones(2).cuda().device.type == "cpu"
        assert torch.ones(2).type() == "torch.cuda.FloatTensor"
        torch.cuda.synchronize()
    assert torch.cuda.current_device is before
    assert torch.ones(2).type() == "torch.FloatTensor"
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(2, device="cuda")


def test_it_stays_off_where_cuda_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="CUDA wherever torch finds it"), on_cpu():
        pass


def work(job: Any, make_engine: Any) -> None: ...


def test_the_device_is_that_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(megatron, "_gpus", lambda: 2)
    assert megatron._device(partial(work, SimpleNamespace(device="cpu"))) == "cpu"
    assert megatron._device(SimpleNamespace(device="cuda")) == "cuda"
    assert megatron._device(work) == "cuda"
    monkeypatch.setattr(megatron, "_gpus", lambda: 0)
    assert megatron._device(work) == "cpu"
    with pytest.raises(UserError, match="megatron on mps"):
        megatron._device(SimpleNamespace(device="mps"))


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(megatron, "_gpus", lambda: 2)
    part = megatron.Megatron(MegatronConfig(tensor=4))
    with pytest.raises(UserError, match="2 GPUs"):
        part.launch(SimpleNamespace(device="cuda"))  # type: ignore[arg-type]


def test_transformer_engine_is_taken_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(setting: bool | None, device: str, precision: str, window: int = 0) -> bool:
        spec = SimpleNamespace(window=window)
        plan: Any = SimpleNamespace(device=device, precision=precision, architecture=SimpleNamespace(spec=lambda: spec))
        return megatron._engine(MegatronConfig(transformer_engine=setting), plan)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert chosen(None, "cuda", "bfloat16")
    assert not chosen(None, "cuda", "float32")
    assert not chosen(None, "cpu", "bfloat16")
    assert not chosen(False, "cuda", "bfloat16")
    assert not chosen(None, "cuda", "bfloat16", window=8)
    with pytest.raises(UserError, match="sliding window"):
        chosen(True, "cuda", "bfloat16", window=8)
    with pytest.raises(UserError, match="CUDA and in bfloat16 only"):
        chosen(True, "cpu", "float32")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not chosen(None, "cuda", "bfloat16")
    with pytest.raises(UserError, match="not installed"):
        chosen(True, "cuda", "bfloat16")


def test_the_environment_is_put_back() -> None:
    assert megatron.CONNECTIONS not in os.environ
    with megatron._one_connection():
        assert os.environ[megatron.CONNECTIONS] == "1"
    assert megatron.CONNECTIONS not in os.environ


@pytest.mark.slow
def test_a_layout_that_does_not_fit_is_refused_by_the_ranks_too(tmp_path: Path) -> None:
    """An evaluate stage knows the model only when it builds it."""
    pytest.importorskip("megatron.core")
    with pytest.raises(UserError, match="4 heads cannot be split into 3"):
        part("parallelism", "megatron", tensor=3, threads=1).launch(Ask({"llama": tmp_path}, tmp_path))
