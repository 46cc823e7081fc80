"""Killed or paused at any call into the system, a building ends with the same bytes and shows nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and reads /proc")

DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a filesystem: what is tested is the order of calls, not the disk's patience."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def drive(mode: str, base: Path, stride: int) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, DRIVER, mode, base, str(stride)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def check_killed(results: list[dict[str, Any]], least: int) -> None:
    assert len(results) >= least
    assert results[-1]["codes"] == [0, 0, 0]  # the points covered the whole building
    assert all(result["codes"][0] == -9 for result in results[:-1])
    digest = results[-1]["end"]["digest"]
    for result in results:
        assert result["codes"][2] == 0, result
        for seen in [*result["seen"], result["end"]]:
            assert seen["problems"] == [], result
            assert seen["digest"] in (None, digest), result
            if seen["digest"]:
                assert seen["true_digest"] == digest, result
                assert seen["sidecar"] == ["metrics.jsonl"], result
                assert seen["meta"] == {"n": 3}, result
        assert result["end"]["digest"] == digest


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_call_and_again_while_going_on_it_ends_with_the_same_digest(base: Path, stride: int) -> None:
    check_killed(drive("calls", base, stride), 100 // stride)


@pytest.mark.parametrize("stride", [101, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_before_any_line_of_the_store_it_ends_with_the_same_digest(base: Path, stride: int) -> None:
    check_killed(drive("lines", base, stride), 900 // stride)


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_holder_paused_past_its_time_changes_nothing_when_it_wakes(base: Path, stride: int) -> None:
    results = drive("pause", base, stride)
    assert len(results) >= 100 // stride
    outcomes = set()
    for result in results:
        assert result["other"] == 0, result
        assert result["slow"] in (0, 3), result  # it took the other's record, or stopped with a Fault
        assert result["before"]["digest"] is not None, result
        assert result["end"]["digest"] == result["before"]["digest"] == result["end"]["true_digest"], result
        assert result["end"]["problems"] == [], result
        outcomes.add(result["slow"])
    assert outcomes == {0, 3}
