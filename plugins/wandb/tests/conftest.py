"""The warm command line of core's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from warm_cli import WarmCli


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    if sys.platform != "linux":
        pytest.skip("forks a parent that has imported torch, which is safe on Linux only")
    warm = WarmCli(tmp_path_factory.mktemp("cli"))
    yield warm
    warm.close()
