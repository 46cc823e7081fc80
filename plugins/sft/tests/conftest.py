"""Fixtures shared with the other objectives of rows, and the warm command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from row_fixtures import encoded, engine, llama, one_thread, saved, vocabulary
from warm_cli import WarmCli

__all__ = ["cli", "encoded", "engine", "llama", "one_thread", "saved", "vocabulary"]


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    if sys.platform != "linux":
        pytest.skip("forks a parent that has imported torch, which is safe on Linux only")
    warm = WarmCli(tmp_path_factory.mktemp("cli"))
    yield warm
    warm.close()
