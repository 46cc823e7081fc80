"""Two replicas are one model: losses, gradients, checkpoints and answers are those of a single process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmgraft.errors import Fault, UserError
from lmgraft_data_parallel.ddp import DDP
from lmgraft_data_parallel.plugin import DDPConfig, SingleConfig
from lmgraft_data_parallel.single import Single
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))  # spawned ranks import the cases by name

from replica_cases import Case, Loop, Resume, Train

CASES = {
    f"{model}-{objective}": Case(model, objective)
    for model in ("llama", "gpt2")
    for objective in ("causal_lm", "sft", "dpo")
}
CASES |= {"routed": Case("routed", "weighed"), "bfloat16": Case("llama", steps=3, precision="bfloat16")}
LAYOUTS = {"single": Single(SingleConfig(threads=1)), "ddp2": DDP(DDPConfig(ranks=2, threads=1))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a layout that went through all cases; each layout does so once."""
    done: dict[str, Path] = {}

    def folder(layout: str) -> Path:
        if layout not in done:
            done[layout] = tmp_path_factory.mktemp(layout)
            LAYOUTS[layout].launch(Train(CASES, done[layout]))
        return done[layout]

    return folder


def read(folder: Path, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"rows{rank}.json").read_text())
    return found


def apart(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest distance of two gradients' tensors, relative to a tensor's norm; one that is nothing but rounding (a
    key's bias, which softmax does not see) is measured against the thousandth part of the whole gradient."""
    assert left.keys() == right.keys()
    floor = torch.stack([tensor.norm() for tensor in left.values()]).norm() / 1000
    return max(float((left[name] - right[name]).norm() / torch.maximum(left[name].norm(), floor)) for name in left)


@pytest.mark.parametrize("name", [name for name in CASES if name != "bfloat16"])
def test_parity_of_losses_and_gradients_ddp2(name: str, trained: Callable[[str], Path]) -> None:
    one, two = trained("single") / name, trained("ddp2") / name
    expected, found = read(one)["rows"], read(two)["rows"]
    assert len(expected) == len(found) == 20
    for row, same in zip(expected, found, strict=True):
        assert same == pytest.approx(row, rel=1e-4, abs=1e-7)
    assert expected[0]["loss"] != expected[-1]["loss"]
    for step in (0, 19):
        assert apart(load_file(one / f"grad{step}"), load_file(two / f"grad{step}")) < 1e-4


def test_parity_in_bfloat16_ddp2(trained: Callable[[str], Path]) -> None:
    one, two = (read(trained(layout) / "bfloat16")["rows"] for layout in ("single", "ddp2"))
    for row, same in zip(one, two, strict=True):
        assert same["loss"] == pytest.approx(row["loss"], rel=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_see_the_same(name: str, trained: Callable[[str], Path]) -> None:
    assert read(trained("ddp2") / name, 0) == read(trained("ddp2") / name, 1)


def test_weights_that_nothing_reads_stay_as_they_were(trained: Callable[[str], Path]) -> None:
    """An optimizer would decay them, were their gradient a zero instead of none."""
    one, two = (load_file(trained(layout) / "routed/checkpoint/model.safetensors") for layout in ("single", "ddp2"))
    assert torch.equal(one["unread"], two["unread"])
    assert "unread" not in load_file(trained("ddp2") / "routed/grad0")


@pytest.mark.parametrize("name", ["llama-causal_lm", "gpt2-dpo"])
@pytest.mark.parametrize(("writer", "reader"), [("single", "ddp2"), ("ddp2", "single")])
def test_parity_of_checkpoints_between_single_and_ddp2(
    writer: str, reader: str, name: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """The reader saves what it loaded byte for byte, optimizer state included, and its next loss is the writer's."""
    source = trained(writer) / name / "checkpoint"
    LAYOUTS[reader].launch(Resume(CASES[name], source, tmp_path))
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / file).read_bytes() == (source / file).read_bytes()
    loss = json.loads((tmp_path / "loss.json").read_text())
    assert loss == pytest.approx(read(trained(writer) / name)["rows"][-1]["loss"], rel=1e-5)


def test_a_stop_that_one_rank_hears_stops_both_at_one_step_and_one_rank_goes_on(tmp_path: Path) -> None:
    case = Case("llama", steps=6)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    LAYOUTS["single"].launch(Loop(case, whole))
    LAYOUTS["ddp2"].launch(Loop(case, broken, stop=3))
    assert [(broken / f"stopped{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["step-00000003"]
    with pytest.raises(Fault, match="the ranks see different checkpoints"):
        LAYOUTS["ddp2"].launch(Loop(case, broken, blind=True))
    LAYOUTS["single"].launch(Loop(case, broken))
    assert apart(load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")) < 1e-4


def test_without_a_gpu_there_are_two_ranks() -> None:
    assert DDPConfig().ranks is None
    with pytest.raises(UserError, match="ddp on device=mps"):
        DDP(DDPConfig()).launch(Train({}, Path(), device="mps"))
    with pytest.raises(UserError, match="GPUs, and each rank takes one"):
        DDP(DDPConfig(ranks=torch.cuda.device_count() + 1)).launch(Train({}, Path(), device="cuda"))


def test_settings_are_checked() -> None:
    assert list(DDPConfig(ranks=2, threads=1).check()) == []
    assert len(list(DDPConfig(ranks=0, threads=0).check())) == 2


@pytest.mark.parametrize(
    ("ranks", "device", "batch", "said"),
    [
        (4, "auto", 3, "train.batch=3 is less than the 4 ranks"),
        (None, "cpu", 1, "train.batch=1 is less than the 2 ranks"),
        (2, "mps", 4, "on device=mps"),
        (None, "auto", 1, None),
        (2, "cpu", None, None),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(
    ranks: int | None, device: str, batch: int | None, said: str | None
) -> None:
    recipe: Any = SimpleNamespace(
        device=device, stage=lambda name: SimpleNamespace(config=SimpleNamespace(batch=batch))
    )
    found = [str(problem) for problem in DDPConfig(ranks=ranks).check_recipe(recipe, "train")]
    assert [said in problem for problem in found] == ([True] if said else [])
