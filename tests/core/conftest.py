"""A folder of installed distributions on this process's own import path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lmgraft.registry import Registry, registry
from third_party import Distribution, forget


@dataclass(frozen=True)
class Site:
    folder: Path

    def install(self, *distributions: Distribution) -> Registry:
        for distribution in distributions:
            distribution.unpack(self.folder)
        forget(self.folder)
        return registry()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Installs distributions of third parties for one test; afterwards none of them is known any more."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    monkeypatch.undo()
    forget(folder)
