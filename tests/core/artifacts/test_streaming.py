"""Folders made of other folders' bytes: equal to the last bit in any dtype, one file or several, without torch."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.artifacts import checkpoint, streaming
from lmgraft.errors import UserError

CONFIG = {"model_type": "llama", "num_hidden_layers": 1}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool, torch.int64]


def model(folder: Path, shard_bytes: int = 10**9, sizes: tuple[int, ...] = (3, 5, 7, 1, 11, 13, 2)) -> Path:
    """Tensors of odd sizes in many dtypes: of their bytes, few begin where their element's width divides."""
    torch.manual_seed(0)
    state = {
        f"{'abcdefg'[i]}.{kind}".replace("torch.", ""): (torch.randn(size) * 9).to(kind)
        for i, (size, kind) in enumerate(zip(sizes, DTYPES, strict=True))
    }
    checkpoint.write(folder, state, CONFIG, {"eos_token_id": 1}, shard_bytes=shard_bytes)
    return folder


def equal(left: Path, right: Path) -> bool:
    one, two = checkpoint.tensors(left), checkpoint.tensors(right)
    return set(one) == set(two) and all(one[n].dtype == two[n].dtype and torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize(("source", "target"), [(10**9, 10**9), (40, 10**9), (10**9, 40), (40, 25)])
def test_a_copy_is_equal_however_either_side_is_cut_into_files(tmp_path: Path, source: int, target: int) -> None:
    folder = model(tmp_path / "in", source)
    streaming.write(tmp_path / "out", streaming.pieces(folder), CONFIG, {"eos_token_id": 1}, shard_bytes=target)
    assert equal(folder, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    if target == 10**9:
        assert files == ["config.json", "generation_config.json", "model.safetensors"]
        plain = model(tmp_path / "plain")  # as the safetensors library writes it
        assert all((tmp_path / "out" / file).read_bytes() == (plain / file).read_bytes() for file in files)
    else:
        assert len([file for file in files if file.endswith(".safetensors")]) > 2
        told = json.loads((tmp_path / "out" / checkpoint.INDEX).read_text())["metadata"]["total_size"]
        assert told == sum(tensor.nbytes for tensor in checkpoint.tensors(folder).values())
        sizes = [(tmp_path / "out" / file).stat().st_size for file in files if file.endswith(".safetensors")]
        assert sum(sizes) > told


@given(st.lists(st.integers(0, 40), min_size=7, max_size=7), st.integers(1, 200))
def test_any_sizes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_bytes: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    model(folder / "in", sizes=tuple(sizes))  # type: ignore[arg-type]
    streaming.write(folder / "out", streaming.pieces(folder / "in"), CONFIG, shard_bytes=shard_bytes)
    assert equal(folder / "in", folder / "out")


@pytest.mark.parametrize("answer", [errno.EXDEV, errno.ENOSYS, 0, None])
def test_systems_that_copy_no_ranges(tmp_path: Path, answer: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two file systems, in an old kernel, one that answers 0, and none at all (macOS)."""

    def refuse(*arguments: Any) -> int:
        if answer:
            raise OSError(answer, os.strerror(answer))
        return 0

    if answer is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    monkeypatch.setattr(streaming, "BUFFER", 7)
    folder = model(tmp_path / "in")
    streaming.write(tmp_path / "out", streaming.pieces(folder), CONFIG)
    assert equal(folder, tmp_path / "out")


def test_a_full_disk_is_no_reason_to_try_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        streaming.write(tmp_path / "out", streaming.pieces(model(tmp_path / "in")), CONFIG)


def test_progress_goes_to_the_end_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BUFFER", 16)
    seen: list[tuple[int, int]] = []
    plan = streaming.pieces(model(tmp_path / "in"))
    streaming.write(tmp_path / "out", plan, CONFIG, progress=lambda done, total: seen.append((done, total)))
    total = sum(piece.size for piece in plan.values())
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (total, total)
    assert all(done - before <= 16 for (before, _), (done, _) in zip([(0, 0), *seen], seen, strict=False))


def test_a_source_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    folder = model(tmp_path / "in")
    plan = streaming.pieces(folder)
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size - 1)
    with pytest.raises(UserError, match="ended within a tensor"):
        streaming.write(tmp_path / "out", plan, CONFIG)


def test_one_piece_may_stand_under_several_names(tmp_path: Path) -> None:
    plan = streaming.pieces(model(tmp_path / "in"))
    name = "a.float32"
    streaming.write(tmp_path / "out", {"x": plan[name], "y": plan[name]}, CONFIG)
    out = checkpoint.tensors(tmp_path / "out")
    assert torch.equal(out["x"], out["y"])
    assert torch.equal(out["x"], checkpoint.tensors(tmp_path / "in")[name])


PROBE = """
import sys
from pathlib import Path
from lmgraft.artifacts import streaming
streaming.write(Path(sys.argv[2]), streaming.pieces(Path(sys.argv[1])), {})
assert not {"torch", "numpy", "safetensors"} & set(sys.modules)
status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with what the parent had
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_a_buffer_and_not_the_model(tmp_path: Path) -> None:
    state = {"w": torch.zeros(40 << 20)}  # 160 MB in one tensor
    checkpoint.write(tmp_path / "in", state, CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, tmp_path / "in", tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 80
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 160 << 20
