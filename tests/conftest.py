"""What tests of several folders share: the helper modules beside this file, real data, and the warm command line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

# Tests that run side by side share the processors: torch's threads would wait for one another. It reads this once, when
# it is imported, and so do the commands that tests start.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from shared_fixtures import cli, data  # noqa: E402
from tiny_recipe import write_recipe  # noqa: E402
from warm_cli import WarmCli  # noqa: E402

__all__ = ["cli", "data", "finished"]


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
