"""What tests of several folders share: the helper modules beside this file, and the warm command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from warm_cli import WarmCli  # noqa: E402


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    if sys.platform != "linux":
        pytest.skip("forks a parent that has imported torch, which is safe on Linux only")
    warm = WarmCli(tmp_path_factory.mktemp("cli"))
    yield warm
    warm.close()
