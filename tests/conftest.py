"""What tests of several folders share: the helper modules beside this file, real data, and the warm command line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from tiny_recipe import write_recipe  # noqa: E402
from warm_cli import WarmCli  # noqa: E402


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


@pytest.fixture(scope="session")
def finished(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.yaml``, its texts, the store ``store`` and the finished run ``run``; tests may add runs.

    A copy that stays without them lies beside it: ``finished.as_it_was``.
    """
    folder = tmp_path_factory.mktemp("finished")
    write_recipe(folder)
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], folder).check()
    shutil.copytree(folder, f"{folder}.as_it_was", symlinks=True)
    return folder
