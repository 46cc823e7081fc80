"""Holds the architecture and the stage ``pretrained`` to their contracts, on model folders that are made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.testing import ArchitectureSuite, StageSuite
from lmgraft.testing.models import write_llama

__all__ = ["TestPretrained", "TestPretrainedStage"]


class TestPretrained(ArchitectureSuite):
    component = "pretrained"

    def prepare(self) -> Mapping[str, Any]:
        return {"path": str(_model(self.folder))}


class TestPretrainedStage(StageSuite):
    component = "pretrained"

    def prepare(self) -> Mapping[str, Any]:
        return {"path": str(_model(self.folder))}


def _model(folder: Path) -> Path:
    place = folder / "model"
    if not place.is_dir():
        write_llama(place, layers=2, hidden=16)
    return place
