"""Precisions by name, and models loaded in each of them."""

from __future__ import annotations

from pathlib import Path

import lmgraft
import pytest
from lmgraft.devices import resolve_precision
from lmgraft.errors import UserError
from lmgraft.seams.parallelism import Sampling
from writing_model import write_model

GREEDY = Sampling(max_new_tokens=12, temperature=0)


def test_precisions() -> None:
    assert [resolve_precision(name, "cpu") for name in ("float32", "bfloat16", "int8")] == [
        "float32",
        "bfloat16",
        "int8",
    ]
    assert resolve_precision("auto", "cuda") == "bfloat16"
    assert resolve_precision("auto", "mps") == "float32"
    assert resolve_precision("auto", "cpu") in ("float32", "bfloat16")


def test_a_folder_is_loaded_in_every_precision(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    request = [([256, 40, 50], [60, 70, 80])]
    exact = lmgraft.load(folder, device="cpu", precision="float32").score(request)[0].logprobs
    for precision in ("bfloat16", "int8"):
        handle = lmgraft.load(folder, device="cpu", precision=precision)
        told = handle.score(request)[0].logprobs
        assert exact != told
        assert exact == pytest.approx(told, abs=0.2)
        assert len(list(handle.generate([256, 40], GREEDY))) == 12
    with pytest.raises(UserError, match="precision=int4 is not known"):
        lmgraft.load(folder, device="cpu", precision="int4")
