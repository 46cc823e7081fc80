"""Distributions as third parties ship them: pure-Python wheels written in a moment, installed by pip or unpacked."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from lmgraft import configs, distributions, paths, registry, table

__all__ = ["Distribution", "build_wheel", "component", "forget", "lmgraft", "module", "pip_install"]

#: Every light module begins so: what is imported leaves a line in the file that IMPORTED names.
PRELUDE = '''\
from __future__ import annotations

import os
from dataclasses import dataclass, field

from lmgraft.component import Component, ComponentConfig, StageConfig, execution, from_stage, slot, slots
from lmgraft.hookspecs import hookimpl

if "IMPORTED" in os.environ:
    with open(os.environ["IMPORTED"], "a") as file:
        file.write(__name__ + chr(10))


@dataclass
class Config(ComponentConfig):
    size: int = 1
    """How many."""


'''


def component(name: str, target: str = "nowhere:Nothing", config: str = "Config", **more: object) -> str:
    """The source of one Component; ``config`` is an expression, the others are values."""
    values = {"name": name, "target": target, "summary": f"The part {name}", **more}
    return f"Component(config={config}, {', '.join(f'{key}={value!r}' for key, value in values.items())})"


def module(seam: str, *components: str, before: str = "", hook: str = "") -> str:
    """The source of a light module whose hook returns these components."""
    body = f"@hookimpl\ndef {hook or f'lmgraft_{seam}'}():\n    return [{', '.join(components)}]\n"
    return PRELUDE + textwrap.dedent(before) + "\n\n" + body


@dataclass(frozen=True)
class Distribution:
    """What a wheel holds; ``parts`` is seam -> {name: light module}, or another group's last word -> entry points."""

    name: str
    files: Mapping[str, str]
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    version: str = "1.0"
    requires: Sequence[str] = ()

    def contents(self) -> dict[str, str]:
        info = f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        metadata = [
            "Metadata-Version: 2.1",
            f"Name: {self.name}",
            f"Version: {self.version}",
            *(f"Requires-Dist: {line}" for line in self.requires),
        ]
        points = [
            "\n".join([f"[lmgraft.{seam}]", *(f"{name} = {value}" for name, value in names.items())])
            for seam, names in self.parts.items()
        ]
        return {
            **{path: textwrap.dedent(text) for path, text in self.files.items()},
            f"{info}/METADATA": "\n".join(metadata) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "\n\n".join(points) + "\n",
        }

    def wheel(self, folder: Path) -> Path:
        contents = self.contents()
        info = next(path for path in contents if path.endswith("/WHEEL")).partition("/")[0]
        record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in contents.items()]
        file = folder / f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as archive:
            for path, text in contents.items():
                archive.writestr(path, text)
            archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
        return file

    def unpack(self, folder: Path) -> None:
        """What pip leaves of the wheel, without pip."""
        for path, text in self.contents().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of a project folder, by its own build backend, which the environment of the tests holds."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def pip_install(wheels: Sequence[Path], *, target: Path | None = None, python: Path | None = None) -> None:
    """Into a folder, or into another interpreter's environment."""
    command = [sys.executable, "-m", "pip", *(["--python", str(python)] if python else []), "install", "-q"]
    command += ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    command += [*(["--target", str(target)] if target else []), *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def forget(folder: Path) -> None:
    """Makes this process read metadata anew, and drops the modules that it imported from ``folder``."""
    for name, known in list(sys.modules.items()):
        # Lazy modules import something at any getattr.
        if isinstance(known, ModuleType) and str(vars(known).get("__file__") or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()
    caches = (
        distributions.found, table.rows, table.faults, table._findable, registry.registry, registry.package_hash,
        paths.recipe_files, configs._roots,
    )  # fmt: skip
    for cache in caches:
        cache.cache_clear()


def lmgraft(
    *arguments: str, cwd: Path, site: Path | None = None, python: str = sys.executable, code: int = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; asserts how it ends, and that bad input shows no traceback."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "WORLD_SIZE", "RANK")}
    inherited |= {"OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(cwd / "cache"), **env}
    if site is not None:
        inherited["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [python, "-m", "lmgraft", *arguments], cwd=cwd, env=inherited, capture_output=True, text=True, timeout=120
    )
    said = f"lmgraft {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, said
    assert "Traceback" not in done.stderr, said
    return done
