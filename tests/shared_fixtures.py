"""Fixtures that tests of core and of plugins share: real data, and the warm command line. A conftest imports them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from warm_cli import WarmCli

__all__ = ["cli", "data"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, read in place; a test that asks for it is skipped where there is none."""
    named = os.environ.get("LMGRAFT_TEST_DATA")
    if not named:
        pytest.skip("LMGRAFT_TEST_DATA names no folder of real data")
    folder = Path(named)
    assert folder.is_dir(), f"LMGRAFT_TEST_DATA={named} is no folder"
    return folder


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    if sys.platform != "linux":
        pytest.skip("forks a parent that has imported torch, which is safe on Linux only")
    warm = WarmCli(tmp_path_factory.mktemp("cli"))
    yield warm
    warm.close()
