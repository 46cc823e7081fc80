"""The exporter ``hf``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["Dtype", "HuggingFaceConfig", "lmgraft_exporter"]


class Dtype(Enum):
    """What weights are written as."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass
class HuggingFaceConfig(ComponentConfig):
    """A Hugging Face model folder, with a model card."""

    asks: ClassVar[tuple[str, ...]] = (
        "name", "license", "languages", "recipe", "stages", "sources", "scores", "versions",
    )  # fmt: skip

    dtype: Dtype | None = None
    """What weights are rounded to: float32, bfloat16 or float16; null leaves them as they are."""
    shard_mb: int = 5000
    """Megabytes of tensors in one file at most; a larger model is written in shards, with an index."""
    card: bool = True
    """Write README.md: where the model comes from, its scores, its licence, how to use it."""

    def check(self) -> Iterator[str]:
        if self.shard_mb < 1:
            yield f"shard_mb is {self.shard_mb}; a file holds at least 1 megabyte"


@hookimpl
def lmgraft_exporter() -> list[Component[Any]]:
    return [
        Component(
            name="hf",
            target="lmgraft_hf.exporter:HuggingFace",
            config=HuggingFaceConfig,
            summary="A Hugging Face folder with a model card, for transformers",
        )
    ]
