"""Packed rows give the gradient of unpacked ones: on the real architectures, in replicas, and cut over ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.training.examples import Examples
from lmgraft.training.packing import PackedExamples
from lmgraft_sft.objective import SFT
from lmgraft_sft.plugin import SFTConfig
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))  # spawned ranks import the cases by name

from packed_cases import CONTEXT, MODELS, OneStep, part
from test_objective import row

ROWS = [row(str(n), "ab?"[: n % 4] or "?", f"{'so ' * (n % 3)}{n}") for n in range(11)]
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "single": ("single", {}),
    "ddp": ("ddp", {"ranks": 2}),
    "pp2": ("megatron", {"pipeline": 2}),
    "sp": ("megatron", {"tensor": 2, "sequence_parallel": True}),
}


@pytest.fixture
def rows(encoded: Callable[..., Examples], tmp_path: Path) -> Path:
    held = encoded(SFT(SFTConfig(template="{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")), ROWS)
    packed = PackedExamples(held, CONTEXT)
    assert max(len(packed._rows(n)) for n in range(len(packed))) > 2
    assert len(packed) < len(held) / 2
    return tmp_path / "train.arrow"


def step(layout: str, work: OneStep) -> dict[str, tuple[dict[str, torch.Tensor], dict[str, float]]]:
    """Model -> its gradients, and what the step told."""
    name, settings = LAYOUTS[layout]
    part("parallelism", name, threads=1, **settings).launch(work)
    return {
        model: (load_file(work.out / model / "gradients"), json.loads((work.out / model / "told.json").read_text()))
        for model in MODELS
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_of_packed_rows_is_that_of_unpacked_ones(
    layout: str, rows: Path, saved: SavedTokenizer, tmp_path: Path
) -> None:
    if LAYOUTS[layout][0] == "megatron":
        pytest.importorskip("megatron.core")
    base = step("single", OneStep(rows, saved.vocab_size, packed=False, out=tmp_path / "unpacked"))
    for micro_batch in (None, 1, 2) if layout == "single" else (1,):
        work = OneStep(rows, saved.vocab_size, packed=True, out=tmp_path / f"by {micro_batch}", micro_batch=micro_batch)
        for model, (found, said) in step(layout, work).items():
            gradients, told = base[model]
            assert found.keys() == gradients.keys()
            whole = float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
            for name, gradient in gradients.items():
                # 1e-5 of a tensor, or 1e-6 of the whole gradient where a tensor is all rounding.
                apart = float((found[name] - gradient).norm())
                assert apart < 1e-5 * float(gradient.norm()) + 1e-6 * whole, (model, name)
            assert said == pytest.approx(told, rel=1e-5)


@pytest.mark.parametrize("what", ["positions", "segments"])
def test_without_positions_or_segments_of_their_own_rows_would_differ(
    what: str, rows: Path, saved: SavedTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    base = step("single", OneStep(rows, saved.vocab_size, packed=False, out=tmp_path / "unpacked"))
    own = PackedExamples.batch

    def spoilt(self: Any, units: Any) -> Any:
        batch = own(self, units)
        assert batch.segments is not None
        if what == "positions":
            batch.positions = torch.arange(CONTEXT).expand_as(batch.positions).contiguous()
        else:
            batch.segments = torch.where(batch.segments >= 0, 0, -1)
        return batch

    monkeypatch.setattr(PackedExamples, "batch", spoilt)
    found = step("single", OneStep(rows, saved.vocab_size, packed=True, out=tmp_path / "packed"))
    for model in MODELS:
        if (model, what) == ("llama", "positions"):
            continue  # rotary ones see distances only: that a whole row is shifted changes nothing there
        pairs = [(found[model][0][name], gradient) for name, gradient in base[model][0].items()]
        assert max(float((one - other).norm() / (other.norm() + 1e-4)) for one, other in pairs) > 1e-2
