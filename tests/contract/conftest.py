"""One built and installed third-party distribution, and one site full of broken ones, for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from third_party import build_wheel, pip_install

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from broken_distributions import ALL, damage  # noqa: E402
from command_place import Place  # noqa: E402

# Strangers' packages hold tests of their own, which run where their wheels are installed.
collect_ignore = ["strangers", "outside_plugin"]


@pytest.fixture(scope="session")
def outside_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter. The plugin is built from its pyproject.toml and installed by pip there."""
    root = tmp_path_factory.mktemp("outside")
    shutil.copytree(HERE / "outside_plugin", root / "source")
    wheel = build_wheel(root / "source", root / "dist")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    python = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    # lmgraft and what it needs are borrowed from the environment that runs these tests; addsitedir also follows the
    # .pth files there, which is how an editable install is found.
    borrowed = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    lines = [f"import site; site.addsitedir({path!r})" for path in borrowed]
    Path(site, "borrowed.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pip_install([wheel], python=python)
    return python


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter with lmgraft's own wheel, built from this checkout.

    No editable install is seen. What lmgraft needs is borrowed: the folder of the environment that runs these tests is
    on the path, but not the .pth files in it, which is where an editable install would come from.
    """
    root = tmp_path_factory.mktemp("fresh")
    wheel = build_wheel(HERE.parents[1], root / "dist")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    python = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    show = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip())
    borrowed = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    pip_install([wheel], python=python)
    where = subprocess.run([python, "-c", "import lmgraft; print(lmgraft.__file__)"], capture_output=True, text=True)
    assert Path(where.stdout.strip()).is_relative_to(site), where.stdout + where.stderr
    return python


@pytest.fixture
def outside(outside_python: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, python=outside_python)


@pytest.fixture(scope="session")
def broken_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every distribution of ``broken_distributions``, good and bad, installed by pip into one folder."""
    root = tmp_path_factory.mktemp("broken")
    pip_install([distribution.wheel(root) for distribution in ALL], target=root / "site")
    damage(root / "site")
    return root / "site"


@pytest.fixture
def messy(broken_site: Path, tmp_path: Path) -> Place:
    """An environment as it is after some years, and a text to read."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("One line of text.\n", encoding="utf-8")
    return Place(tmp_path, site=broken_site)
