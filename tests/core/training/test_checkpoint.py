from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from lmgraft.training import checkpoint


def put(folder: Path, step: int, keep: int = 2, content: str = "weights") -> Path:
    def write(into: Path) -> None:
        (into / "model.safetensors").write_text(f"{content} {step}")
        (into / "optimizer.safetensors").write_text(f"moments {step}")

    return checkpoint.save(folder, step, {"skipped": step // 2}, write, keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_yet(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30, 100_000_000):
        path = put(tmp_path, step)
    assert names(tmp_path) == ["step-00000030", "step-100000000"]
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, found.path) == (100_000_000, path)
    assert dict(found.state) == {"step": 100_000_000, "skipped": 50_000_000}
    assert (path / "model.safetensors").read_text() == "weights 100000000"


@pytest.mark.parametrize("how", ["flip", "shorten", "remove", "state", "sums", "no sums"])
def test_a_damaged_one_is_passed_over(how: str, tmp_path: Path) -> None:
    put(tmp_path, 1)
    path = put(tmp_path, 2)
    weights = path / "model.safetensors"
    if how == "flip":
        weights.write_text(weights.read_text().replace("w", "x"))
    elif how == "shorten":
        os.truncate(weights, 3)
    elif how == "remove":
        weights.unlink()
    elif how == "state":
        (path / "state.json").write_text(json.dumps({"step": 2, "skipped": 7}))
    elif how == "sums":
        (path / "checksums.json").write_text("{")
    else:
        (path / "checksums.json").unlink()
    notes: list[str] = []
    found = checkpoint.latest(tmp_path, notes.append)
    assert found is not None
    assert found.step == 1
    assert len(notes) == 1
    assert "step-00000002 is damaged" in notes[0]


def test_a_damaged_one_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    put(tmp_path, 10, keep=1)
    damaged = tmp_path / "step-00000020"
    damaged.mkdir()
    put(tmp_path, 12, keep=1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 12
    assert names(tmp_path) == ["step-00000012"]


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    (put(tmp_path, 3) / "checksums.json").unlink()
    put(tmp_path, 3, content="better")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.path / "model.safetensors").read_text() == "better 3"


def test_leftovers_are_removed_and_never_taken(tmp_path: Path) -> None:
    put(tmp_path, 1)
    left = tmp_path / "step-00000009.tmp-4242"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1
    put(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_an_error_while_writing_leaves_the_one_before(tmp_path: Path) -> None:
    put(tmp_path, 1, keep=1)

    def full(into: Path) -> None:
        (into / "model.safetensors").write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, 2, {"skipped": 0}, full, 1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1


def _write_on(folder: Path, first: int) -> None:
    step = first
    while True:
        step += 1

        def write(into: Path, step: int = step) -> None:
            (into / "model.safetensors").write_bytes(step.to_bytes(4, "little") * 50_000)

        checkpoint.save(folder, step, {"skipped": 0}, write, 1)


def _newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("step-????????")), default="")


def test_a_kill_at_any_instant_leaves_a_whole_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    step = 0
    for round_ in range(12):
        process = fork.Process(target=_write_on, args=(tmp_path, step))
        process.start()
        deadline = time.monotonic() + 60
        while _newest(tmp_path) < f"step-{step + 2:08d}" and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(0.0007 * round_)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = checkpoint.latest(tmp_path)
        assert found is not None
        assert found.step >= step + 2
        assert (found.path / "model.safetensors").read_bytes() == found.step.to_bytes(4, "little") * 50_000
        step = found.step
