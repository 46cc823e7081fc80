"""What a train stage hands to its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.stages.train_settings import TrainStage

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """What every rank needs in order to do its part: plain data, picklable."""

    settings: TrainStage
    parts: Mapping[str, tuple[Any, Any]]
    """Slot -> component and config; each rank builds its own."""
    tokenizer: Path
    """The folder that holds the tokenizer."""
    vocab_size: int
    tokens: Path | None
    """Packed tokens; None where the data are rows."""
    more_tokens: Mapping[str, Path]
    """Stage -> further packed tokens, of ``more_data``."""
    frozen_rows: int
    """So many first rows of embedding and head are not trained."""
    model: Path | None
    """The folder of the stage's model to start from."""
    brought: Path | None
    """Without one: the model folder that the architecture's settings bring their weights from."""
    folder: Path
    """The stage's work folder."""
    out: Path
    device: str
    precision: str
    seed: int

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def rows(self, split: str) -> Path:
        """The encoded rows of a split, where the data are rows."""
        return self.folder / f"{split}.arrow"

    def part(self, slot: str) -> Any:
        from lmgraft.registry import build

        return build(*self.parts[slot])
