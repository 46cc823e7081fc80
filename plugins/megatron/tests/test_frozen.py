"""Frozen weights keep every bit in every layout, and the others are trained as in a single process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from frozen_cases import FROZEN, KEPT, PARTS_OF_MATRICES, STEPS, Freeze, GoOn
from lmgraft.errors import UserError
from lmgraft.seams.architecture import DecoderSpec, Role
from lmgraft_megatron.refusals import split
from megatron_cases import part
from safetensors.torch import load_file

pytest.importorskip("megatron.core")

#: Two ranks that split the tensors alone are the conformance kit's.
LAYOUTS = ("sp", "dp2", "tp2_pp2", "tp2_dp2", "pp2_dp2")
DISTRIBUTED = ("tp2_dp2", "pp2_dp2")
HALF = ("half", "half_last", "half_layers")
WHOLE = tuple(name for name in FROZEN if name not in HALF)
Frozen = Callable[[str], Path]


def there(layout: str) -> list[str]:
    return [name for name in FROZEN if layout not in DISTRIBUTED or name not in PARTS_OF_MATRICES]


@pytest.fixture(scope="module")
def frozen(launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    """The folder of a layout that went through all cases; each layout does so once."""
    done: dict[str, Path] = {}

    def folder(layout: str) -> Path:
        if layout not in done:
            done[layout] = tmp_path_factory.mktemp(f"{layout}-frozen")
            launch(layout, Freeze(done[layout], tuple(there(layout))))
        return done[layout]

    return folder


def tensors(folder: Path, step: int, file: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / str(step) / f"{file}.safetensors")


def figures(folder: Path) -> list[list[float]]:
    found: list[list[float]] = json.loads((folder / "figures.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), [(at, name) for at in ("single", *LAYOUTS) for name in there(at)])
def test_what_is_frozen_keeps_every_bit_and_no_state(layout: str, name: str, frozen: Frozen) -> None:
    folder, case = frozen(layout) / name, FROZEN[name]
    start, end = tensors(folder, 0), tensors(folder, STEPS)
    for key, before in start.items():
        first = case.first(key, len(before))
        assert torch.equal(before[:first].view(torch.int32), end[key][:first].view(torch.int32)), key
        assert first == len(before) or not torch.equal(before[first:], end[key][first:]), key
    held = {key: one.shape for key, one in tensors(folder, STEPS, "optimizer").items() if one.dim()}
    trained = {key: len(one) - case.first(key, len(one)) for key, one in start.items()}
    assert held == {
        f"{key}.{moment}": (rows, *start[key].shape[1:])
        for key, rows in trained.items()
        if rows
        for moment in ("exp_avg", "exp_avg_sq")
    }


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), [(at, name) for at in LAYOUTS for name in there(at)])
def test_what_is_trained_is_trained_as_in_a_single_process(layout: str, name: str, frozen: Frozen) -> None:
    one, other = frozen("single") / name, frozen(layout) / name
    rough = name in HALF
    for row, same in zip(figures(one), figures(other), strict=True):
        assert same == pytest.approx(row, rel=2e-2 if rough else 1e-4)
    start, end, found = tensors(one, 0), tensors(one, STEPS), tensors(other, STEPS)
    assert {key: one.shape for key, one in found.items()} == {key: one.shape for key, one in end.items()}
    gone = sum(float((end[key] - start[key]).square().sum()) for key in end)
    away = sum(float((end[key] - found[key]).square().sum()) for key in end)
    assert away**0.5 <= (0.3 if rough else 0.02) * gone**0.5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_goes_on_from_a_single_process(layout: str, frozen: Frozen, launch: Any, tmp_path: Path) -> None:
    launch(layout, GoOn((frozen("single"),), tmp_path, tuple(name for name in there(layout) if name in WHOLE)))
    went_on(frozen("single"), tmp_path)


@pytest.mark.slow
def test_a_single_process_goes_on_from_every_layout(frozen: Frozen, launch: Any, tmp_path: Path) -> None:
    sources = tuple(frozen(layout) for layout in LAYOUTS)
    launch("single", GoOn(sources, tmp_path, WHOLE))
    for source in sources:
        went_on(source, tmp_path)


def went_on(source: Path, out: Path) -> None:
    """Saved again the bytes are the same, optimizer state included; the next steps are those of the writer."""
    again = sorted((out / source.name).iterdir())
    assert len(again) >= len(WHOLE) - 1
    for folder in again:
        wrote = source / folder.name
        for file in ("model.safetensors", "optimizer.safetensors"):
            assert (folder / file).read_bytes() == (wrote / str(KEPT) / file).read_bytes(), (folder.name, file)
        for row, same in zip(figures(wrote)[KEPT:], figures(folder), strict=True):
            assert same == pytest.approx(row, rel=1e-4)


SPEC = DecoderSpec(layers=2, hidden=8, heads=2, kv_heads=2, head_dim=4, mlp=8, context=8)


def test_the_distributed_optimizer_takes_fused_matrices_whole() -> None:
    (query,) = split(frozenset({Role.QUERY, Role.NORM}), SPEC)
    assert (query.fact, query.remedy) == (
        "megatron's distributed optimizer cannot train query without key, value",
        "parallelism.distributed_optimizer=false, or name all of them in trainable",
    )
    assert len(split(frozenset({Role.VALUE, Role.MLP_IN}), SPEC)) == 2
    for whole in ((), (Role.QUERY, Role.KEY, Role.VALUE), (Role.MLP_GATE, Role.MLP_IN), (Role.EMBEDDING, Role.HEAD)):
        assert split(frozenset(whole), SPEC) == []


@pytest.mark.slow
def test_it_is_refused_where_it_is_asked_for_fused_matrices_in_part(tmp_path: Path) -> None:
    work = Freeze(tmp_path, PARTS_OF_MATRICES)
    one = part("parallelism", "megatron", threads=1, distributed_optimizer=True, ranks=1)
    with pytest.raises(UserError, match="cannot train query without key, value"):
        one.launch(work)
