"""The layers of a folder: which tensors they are, and the config of layers that are put together anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts.layers import (
    NEW_LAYERS,
    Stack,
    added,
    joined_config,
    restacked,
    restacked_config,
    stack,
    stacks,
    unjoinable,
)
from lmgraft.artifacts.layers import unstackable as kinds
from lmgraft.errors import UserError

NAMES = [f"model.layers.{i}.mlp.{part}.weight" for i in range(4) for part in ("up_proj", "down_proj")]


def test_tensors_of_layers_and_others() -> None:
    found = stack(Path("in"), {"num_hidden_layers": 4}, [*NAMES, "model.norm.weight", "lm_head.weight"])
    assert found == Stack("model.layers", 4)
    assert found.place("model.layers.3.mlp.up_proj.weight") == (3, "mlp.up_proj.weight")
    assert found.place("model.norm.weight") is None
    assert found.place("vision.layers.3.mlp.up_proj.weight") is None
    assert found.name(7, "mlp.up_proj.weight") == "model.layers.7.mlp.up_proj.weight"
    assert stacks([f"h.{i}.experts.{j}.w1" for i in range(3) for j in range(8)], 3) == ["h"]


def test_layers_in_another_order() -> None:
    found = restacked({name: name for name in [*NAMES, "norm"]}, Stack("model.layers", 4), [3, 3, 0])
    assert found == {
        "norm": "norm",
        **{
            f"model.layers.{new}.mlp.{part}.weight": f"model.layers.{old}.mlp.{part}.weight"
            for new, old in enumerate([3, 3, 0])
            for part in ("up_proj", "down_proj")
        },
    }


def test_what_is_told_layer_by_layer() -> None:
    config = {"n_layer": 3, "layer_types": ["a", "b", "c"], "mlp_only_layers": [2], "eos_token_id": [1, 2, 3]}
    told = {"n_layer": 4, "layer_types": ["c", "c", "a", "b"], "mlp_only_layers": [0, 1], "eos_token_id": [1, 2, 3]}
    assert restacked_config(config, 3, [2, 2, 0, 1]) == told


def test_layers_of_two_models() -> None:
    one = {"num_hidden_layers": 2, "layer_types": ["a", "b"], "mlp_only_layers": [0], "letters": "x"}
    two = {"num_hidden_layers": 3, "layer_types": ["c", "d", "e"], "mlp_only_layers": [1, 2], "letters": "y"}
    order = [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert joined_config([one, two], [2, 3], order) == {
        "num_hidden_layers": 4, "layer_types": ["a", "b", "d", "e"], "mlp_only_layers": [0, 2, 3], "letters": "x",
    }  # fmt: skip
    dense = {"first_k_dense_replace": 1}
    assert unjoinable([dense, dense], [2, 3], order) is None
    assert unjoinable([dense, dense], [2, 3], [(0, 0), (1, 0)]) == ("first_k_dense_replace=1", 1, 0)
    assert unjoinable([dense, {"first_k_dense_replace": 2}], [2, 3], order) == ("first_k_dense_replace=1", 2, 1)


@pytest.mark.parametrize(
    ("config", "order", "found"),
    [
        ({"moe_layer_freq": 2}, [0, 1, 0, 1], None),
        ({"moe_layer_freq": 2}, [0, 1, 1], ("moe_layer_freq=2", 2, 1)),
        ({"scale_attn_by_inverse_layer_idx": True}, [0, 1], None),
        ({"scale_attn_by_inverse_layer_idx": True}, [1, 0], ("scale_attn_by_inverse_layer_idx=true", 0, 1)),
        ({"scale_attn_by_inverse_layer_idx": False}, [1, 0], None),
    ],
)
def test_kinds_that_follow_from_a_number(config: dict[str, Any], order: list[int], found: Any) -> None:
    assert kinds(config, 2, order) == found


@pytest.mark.parametrize(
    ("config", "names", "said"),
    [
        ({}, NAMES, "tells no number of layers"),
        ({"n_layer": 5}, NAMES, "tensors model.layers.N are of 4 layers, 0 to 3"),
        ({"n_layer": 4}, ["norm"], "no tensor's name holds a layer's number"),
        ({"n_layer": 10**15}, NAMES, "tells of 1000000000000000 layers"),
        ({"n_layer": 2}, ["h.0.w", "h.01.w", f"h.{'1' * 5000}.w"], "1 layers, 0 to 0"),
        ({"n_layer": 4}, [*NAMES, *(name.replace("model", "vision") for name in NAMES)], "2 stacks of layers"),
    ],
)
def test_what_is_no_decoder(config: dict[str, Any], names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        stack(Path("in"), config, names)


@pytest.mark.parametrize(
    ("told", "found"), [([5, 2, 2], [2, 5]), ([], []), (None, []), ("25", []), ([1, "2"], []), ([True], []), ([-1], [])]
)
def test_added_layers_are_numbers_or_none(told: Any, found: list[int]) -> None:
    assert added({NEW_LAYERS: told}) == found


def test_added_layers_move_with_the_layers() -> None:
    config = restacked_config({"num_hidden_layers": 4, NEW_LAYERS: [1, 3]}, 4, [0, 1, 2, 1, 3])
    assert added(config) == [1, 3, 4]
