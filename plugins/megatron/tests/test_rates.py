"""An initializer's learning rates hold in every layout; what a fused matrix cannot have is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft_megatron.refusals import rates
from rate_cases import Ruled
from safetensors.torch import load_file

LAYER = "model.layers.1.self_attn."


def test_a_fused_matrix_has_one_rate() -> None:
    scales = {"q_proj": 0.25, "k_proj": 0.5, "v_proj": 0.5}
    roles = {f"{LAYER}{name}.weight": TensorRole(Role.QUERY, 1, scale) for name, scale in scales.items()}
    (problem,) = rates(roles)
    assert problem.fact.endswith(f"cannot train {LAYER}q_proj.weight at another rate than {LAYER}k_proj.weight")
    assert "0.25 and 0.5 times" in problem.cause
    assert "distributed_optimizer=false" in problem.remedy
    assert rates({name: role for name, role in roles.items() if "q_proj" not in name}) == []
    gate = {f"model.layers.0.mlp.{name}_proj.weight": TensorRole(Role.MLP_IN, 0, 2.0) for name in ("gate", "up")}
    assert rates(gate) == []
    gate["model.layers.0.mlp.up_proj.weight"] = TensorRole(Role.MLP_IN, 0, 1.0)
    assert "mlp.gate_proj.weight" in rates(gate)[0].fact
    assert rates({"lm_head.weight": TensorRole(Role.HEAD, None, 0.5), "weight": TensorRole(Role.OTHER)}) == []


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def single(launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single-rates")
    launch("single", Ruled(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("tp2", ("wider", "wider_heads")),
        ("tp2_pp2", ("wider_heads",)),
        ("pp2_dp2", ("wider",)),
        ("tp2_dp2", ("wider",)),
    ],
)
def test_rates_are_those_of_one_process(
    layout: str, names: tuple[str, ...], launch: Any, single: Path, tmp_path: Path
) -> None:
    pytest.importorskip("megatron.core")
    launch(layout, Ruled(tmp_path, names))
    for name in names:
        expected, found = tensors(single / name), tensors(tmp_path / name)
        assert expected.keys() == found.keys()
        for key, tensor in expected.items():
            assert torch.allclose(found[key], tensor, atol=2e-5, rtol=1e-4), f"{name} {key}"


@pytest.mark.slow
def test_the_distributed_optimizer_refuses_what_it_cannot(launch: Any, tmp_path: Path) -> None:
    pytest.importorskip("megatron.core")
    with pytest.raises(UserError, match=r"q_proj\.weight at another rate than"):
        launch("pp2_dp2", Ruled(tmp_path, ("wider_heads",)))
