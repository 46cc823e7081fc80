"""The kind of stage ``merge``: one model made of one or several by a merge part; the artifact is a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Problem, UserError
from lmgraft.stages.plugin import MergeStage

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.stage import StageContext

__all__ = ["MergeModels"]


class MergeModels:
    """Satisfies :class:`lmgraft.seams.stage.Stage`; see :class:`~lmgraft.stages.plugin.MergeStage` for its settings."""

    artifact = "model"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, MergeStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        return {}

    def run(self, context: StageContext) -> None:
        """Merging starts over after a kill: it copies at the speed of the disk, and half a file is worth nothing."""
        models = [artifact.path for artifact in context.inputs["models"]]
        _same_tokenizer(context)
        with context.progress(f"merging into {context.name}", None, "B") as bar:
            reached = 0

            def progress(done: int, total: int) -> None:
                nonlocal reached
                context.alive()
                bar.total(total)
                bar.advance(done - reached)
                reached = done

            context.part("merge").merge(models, context.out, progress)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (models[0] / name).is_file():
                shutil.copyfile(models[0] / name, context.out / name)
        checkpoint.verify(context.out)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        yield "parameters", f"{checkpoint.parameters(artifact.path):,}"
        config = checkpoint.read_config(artifact.path)
        for key in ("num_hidden_layers", "n_layer", "num_layers"):
            if key in config:
                yield "layers", str(config[key])


def _same_tokenizer(context: StageContext) -> None:
    """Models of different vocabularies have rows that mean different tokens."""
    first, *others = context.inputs["models"]
    for other in others:
        if _vocabulary(first.path) != _vocabulary(other.path):
            cause = "their tokenizer.json differ, so the same row of an embedding stands for different tokens"
            raise UserError(
                Problem(
                    f"stage {context.name}: {first.stage} and {other.stage} cannot be merged",
                    cause,
                    "merge models that share a tokenizer",
                )
            )


def _vocabulary(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
