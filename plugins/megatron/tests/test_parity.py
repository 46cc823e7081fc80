"""All layouts are one model: losses, gradients, checkpoints and answers are those of a single process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from megatron_cases import Ask, Case, Resume
from safetensors.torch import load_file

pytest.importorskip("megatron.core")
pytestmark = pytest.mark.slow

LAYOUTS = ("tp2", "pp2", "sp", "dp2", "tp2_pp2", "tp2_dp2")

NAMES = (
    "llama-causal_lm",
    "llama-sft",
    "llama-dpo",
    "gpt2-causal_lm",
    "gpt2-sft",
    "gpt2-dpo",
    "llama_tied-causal_lm",
    "llama_bare-causal_lm",
    "llama-everything",
)
OTHERS = ("falcon-causal_lm", "falcon-sft", "falcon_two-causal_lm", "window-causal_lm", "stretched-causal_lm")
FEW = ("llama-causal_lm", "llama_tied-causal_lm", "llama-everything", "gpt2-sft")
ASKED = ("llama", "llama_tied", "gpt2", "falcon", "window")
Trained = Callable[[str], Path]


def apart(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest distance of two gradients' tensors, relative to a tensor's norm.

    A tensor whose gradient is nothing but rounding (a key's bias moves all scores of a query alike, so softmax does
    not see it) is measured against the thousandth part of the whole gradient.
    """
    assert left.keys() == right.keys()
    whole = torch.stack([tensor.norm() for tensor in left.values()]).norm()
    return max(
        float((left[name] - right[name]).norm() / torch.maximum(left[name].norm(), whole / 1000)) for name in left
    )


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *((layout, name) for layout in ("tp2", "pp2", "sp", "tp2_pp2") for name in NAMES),
        *((layout, name) for layout in ("dp2", "tp2_dp2") for name in FEW),
        *((layout, name) for layout in ("tp2", "sp", "tp2_pp2") for name in OTHERS),
        ("tp2_dp2", "falcon-causal_lm"),
    ],
)
def test_parity_of_losses_and_gradients(layout: str, name: str, trained: Trained) -> None:
    one, other = trained("single") / name, trained(layout) / name
    expected, found = (json.loads((folder / "rows.json").read_text()) for folder in (one, other))
    assert len(expected) == len(found) == 20
    for row, same in zip(expected, found, strict=True):
        assert same == pytest.approx(row, rel=1e-4, abs=1e-6)
    for step in (0, 19):
        assert apart(load_file(one / f"grad{step}"), load_file(other / f"grad{step}")) < 1e-4


@pytest.mark.parametrize("model", ["llama", "gpt2_bare"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parity_in_bfloat16_is_a_rough_one(layout: str, model: str, trained: Trained) -> None:
    """A single process keeps the residual stream in float32, Megatron in bfloat16: three digits agree."""
    expected, found = (json.loads((trained(at) / f"{model}-half/rows.json").read_text()) for at in ("single", layout))
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], rel=2e-3)
    assert [row["norm"] for row in found] == pytest.approx([row["norm"] for row in expected], rel=2e-2)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "dp2"])
def test_parity_of_checkpoints_under_each_other_layout(
    layout: str, trained: Trained, launch: Any, tmp_path: Path
) -> None:
    """Loaded and saved again a checkpoint has the same bytes, optimizer state included, whoever wrote it; and the next
    steps' losses are the writer's."""
    names = ("llama-causal_lm", "gpt2-sft")
    others = [other for other in ("single", "ddp", *LAYOUTS) if other != layout]
    checkpoints = {
        f"{other}.{name}": (Case(*name.split("-")), trained(other) / name / "checkpoint")
        for other in others
        for name in names
    }
    back = {f"back.{name}": (Case(*name.split("-")), trained(layout) / name / "checkpoint") for name in names}
    launch(layout, Resume(checkpoints, tmp_path / "here"))
    launch("single", Resume(back, tmp_path / "single"))
    losses = json.loads((tmp_path / "here/losses.json").read_text())
    losses |= json.loads((tmp_path / "single/losses.json").read_text())
    for place, cases in (("here", checkpoints), ("single", back)):
        for name, (_, folder) in cases.items():
            for file in ("model.safetensors", "optimizer.safetensors"):
                assert (tmp_path / place / name / file).read_bytes() == (folder / file).read_bytes()
    for name in names:
        first = json.loads((trained("single") / name / "rows.json").read_text())[-1]["loss"]
        seen = [losses[key] for key in losses if key.endswith(f".{name}")]
        assert len(seen) == len(others) + 1
        for pair in seen:
            assert pair == pytest.approx([first, seen[0][1]], rel=1e-4)


@pytest.fixture(scope="module")
def asked(trained: Trained, launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The folder of a layout's answers about models that a single process has trained."""
    done: dict[str, Path] = {}

    def folder(layout: str) -> Path:
        if layout not in done:
            done[layout] = tmp_path_factory.mktemp(f"{layout}-asked")
            launch(
                layout, Ask({model: trained("single") / f"{model}-causal_lm/model" for model in ASKED}, done[layout])
            )
        return done[layout]

    return folder


@pytest.mark.parametrize("model", ASKED)
@pytest.mark.parametrize("layout", ["tp2", "tp2_pp2", "sp"])
def test_parity_of_answers_and_of_hugging_face_folders(
    layout: str, model: str, trained: Trained, asked: Trained
) -> None:
    """Log-probabilities, text and whatever else can be asked are those of a single process, and a model folder that
    went through the layout has the same tensors, bit for bit."""
    one, other = asked("single") / model, asked(layout) / model
    expected, found = (json.loads((folder / "asked.json").read_text()) for folder in (one, other))
    assert found["texts"] == expected["texts"]
    assert found["greedy"] == expected["greedy"]
    for left, right in zip(expected["logprobs"], found["logprobs"], strict=True):
        assert right == pytest.approx(left, abs=1e-5)
    answers = load_file(other / "answers")
    for name, tensor in load_file(one / "answers").items():
        torch.testing.assert_close(answers[name], tensor, rtol=1e-5, atol=1e-5)
    folder = trained("single") / f"{model}-causal_lm" / "model"
    stored, again = load_file(folder / "model.safetensors"), load_file(other / "model/model.safetensors")
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[name], again[name]) for name in stored)
    assert (other / "model/config.json").read_text() == (folder / "config.json").read_text()
