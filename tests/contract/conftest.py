"""One built and installed third-party distribution, and one site full of broken ones, for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from third_party import lmgraft, pip_install

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from broken_distributions import ALL  # noqa: E402


@dataclass(frozen=True)
class Place:
    """Where commands are given: a folder, and the interpreter or the site that sees the distributions."""

    folder: Path
    python: Path | None = None
    site: Path | None = None

    def __call__(self, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        python = str(self.python or sys.executable)
        return lmgraft(*arguments, cwd=self.folder, site=self.site, python=python, code=code, **env)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def outside_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter. The plugin is built from its pyproject.toml and installed by pip there."""
    root = tmp_path_factory.mktemp("outside")
    shutil.copytree(HERE / "outside_plugin", root / "source")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "dist"), "source"]
    built = subprocess.run(build, cwd=root, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
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
    (wheel,) = (root / "dist").glob("*.whl")
    pip_install([wheel], python=python)
    return python


@pytest.fixture
def outside(outside_python: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, python=outside_python)


@pytest.fixture(scope="session")
def broken_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every distribution of ``broken_distributions``, good and bad, installed by pip into one folder."""
    root = tmp_path_factory.mktemp("broken")
    pip_install([distribution.wheel(root) for distribution in ALL], target=root / "site")
    return root / "site"


@pytest.fixture
def messy(broken_site: Path, tmp_path: Path) -> Place:
    """An environment as it is after some years, and a text to read."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("One line of text.\n", encoding="utf-8")
    return Place(tmp_path, site=broken_site)
