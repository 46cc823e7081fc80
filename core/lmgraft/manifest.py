"""run.json: what ran, from which parts, in which environment, with which scores. Nothing secret goes into it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lmgraft import secrets
from lmgraft.recipe import Recipe
from lmgraft.registry import Installed, package_hash
from lmgraft.version import installed

__all__ = ["FILE", "Manifest", "environment", "read"]

FILE = "run.json"
"""What makes a folder a run directory."""
#: Distributions whose versions a result may depend on; recorded, not keyed.
_WATCHED = ("torch", "tokenizers", "datasets", "pyarrow", "numpy", "safetensors", "hydra-core", "omegaconf", "pluggy")


class Manifest:
    """The manifest of one run, written whole and atomically at every change."""

    def __init__(
        self, folder: Path, recipe: Recipe, *, source: str, overrides: Iterable[str], device: str, store: Path
    ) -> None:
        self._file = folder / FILE
        self.data: dict[str, Any] = {
            "recipe_name": recipe.name,
            "recipe_source": source,
            "overrides": [secrets.override(line) for line in overrides],
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "seed": recipe.seed,
            "device": device,
            "store": str(store),
            "stages": {},
            "components": list(components(recipe)),
            "scores": [],
            "environment": environment(),
            "recipe": secrets.masked(recipe.resolved, secrets.known()),
        }

    def stage(self, name: str, **facts: Any) -> None:
        self.data["stages"].setdefault(name, {}).update(facts)
        self.write()

    def write(self, **facts: Any) -> None:
        self.data.update(facts)
        text = json.dumps(self.data, indent=2, ensure_ascii=False, allow_nan=True)
        temporary = self._file.with_name(f".{FILE}.{os.getpid()}")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, self._file)


def read(folder: Path) -> dict[str, Any]:
    """The manifest in a run directory; raises FileNotFoundError or ValueError."""
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{folder / FILE} holds no JSON object")
    return data


def components(recipe: Recipe) -> Iterable[dict[str, Any]]:
    """Every part of the recipe with where it comes from, in the recipe's order; kinds of stage have an empty slot."""
    for stage in recipe.stages:
        yield _component(stage.installed, stage.name, "", "stage")
        for part in stage.parts:
            yield _component(part.installed, stage.name, part.slot, part.seam)
    for part in recipe.trackers:
        yield _component(part.installed, "", part.slot, part.seam)


def _component(installed: Installed, stage: str, slot: str, seam: str) -> dict[str, Any]:
    component = installed.component
    package = component.target.partition(":")[0].partition(".")[0]
    # Core's own kinds change by revision alone, as they do in action keys.
    pinned = {} if package == "lmgraft" else {"package_sha256": package_hash(package)}
    return {
        "stage": stage,
        "slot": slot,
        "seam": seam,
        "name": component.name,
        "distribution": installed.row.distribution,
        "version": installed.row.version,
        "revision": component.revision,
        "target": component.target,
        "source": {**_source(installed.row.distribution), **pinned},
    }


@lru_cache(maxsize=64)
def _direct_url(distribution: str) -> Mapping[str, Any]:
    try:
        text = metadata.distribution(distribution).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    data = json.loads(text) if text else {}
    return data if isinstance(data, dict) else {}


def _source(distribution: str) -> dict[str, Any]:
    """PEP 610: a wheel from an index has no direct_url.json."""
    url = _direct_url(distribution)
    if url.get("dir_info", {}).get("editable"):
        commit = _commit(str(url.get("url", "")))
        return {"kind": "editable", **({"commit": commit} if commit else {})}
    if "vcs_info" in url:
        return {"kind": "vcs", "commit": url["vcs_info"].get("commit_id", "")}
    return {"kind": "wheel"}


@lru_cache(maxsize=8)
def _commit(url: str) -> str:
    """The commit of a checkout, read from .git without running git; ``""`` outside one."""
    from urllib.parse import unquote, urlparse

    folder = Path(unquote(urlparse(url).path)) / ".git"
    try:
        head = (folder / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head
        reference = folder / head.removeprefix("ref: ")
        if reference.is_file():
            return reference.read_text(encoding="ascii").strip()
        for line in (folder / "packed-refs").read_text(encoding="ascii").splitlines():
            if line.endswith(head.removeprefix("ref: ")):
                return line.split()[0]
    except OSError:
        pass
    return ""


def environment() -> dict[str, Any]:
    """Versions and the machine: recorded, not keyed. No host name, no user, no environment variables but threads."""
    versions = {}
    for name in _WATCHED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "lmgraft": installed(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": versions,
    }


@lru_cache(maxsize=1)
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
