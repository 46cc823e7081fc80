"""What decides a stage that starts from somebody's model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft import registry
from lmgraft.stages import _start as start
from writing_model import write_model


def context(**inputs: Any) -> Any:
    def digests(files: Sequence[Path]) -> list[str]:
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    return SimpleNamespace(name="pretrain", inputs=inputs, file_digests=digests)


def brings(folder: Path) -> tuple[Any, Any]:
    return None, SimpleNamespace(weights=lambda: folder)


def test_a_folder_decides_by_its_contents_and_by_the_code_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write_model(tmp_path / "first"), write_model(tmp_path / "second")
    found = start.identity(context(), brings(first))
    assert found == start.identity(context(), brings(second))
    assert set(found["start"]) == {"config.json", "model.safetensors"}
    assert set(start.identity(context(model=["a stage's"]), brings(first))["start"]) == {"config.json"}
    write_model(second, seed=1)
    assert found != start.identity(context(), brings(second))
    monkeypatch.setattr(registry, "package_hash", lambda package: f"another {package}")
    other = start.identity(context(), brings(first))
    assert (other["start"], other["architecture"] != found["architecture"]) == (found["start"], True)


def test_a_folder_that_its_part_reads_by_itself(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "of my own"}')
    assert set(start.identity(context(), brings(folder))) == {"start"}
