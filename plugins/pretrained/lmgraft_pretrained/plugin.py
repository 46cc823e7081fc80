"""Somebody's model folder as a start: the architecture ``pretrained`` and the kind of stage ``pretrained``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.component import Component, ComponentConfig, StageConfig, execution, from_stage
from lmgraft.errors import Problem, UserError
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.architecture import DecoderSpec

__all__ = ["PretrainedConfig", "PretrainedStage"]


def _folder(path: str | None) -> Path:
    return Path(path or "").expanduser()


def _unreadable(path: str | None) -> Iterator[Problem | str]:
    """Why the folder gives no model: said before any work."""
    if not path:
        yield "path is null; name a Hugging Face model folder, or a run directory"
        return
    from lmgraft.loading import model_folder, settings_for

    try:
        settings_for(model_folder(_folder(path)))
    except UserError as error:
        yield from error.problems


def _model(path: str | None) -> Path:
    from lmgraft.loading import model_folder

    return model_folder(_folder(path))


@dataclass
class PretrainedConfig(ComponentConfig):
    """The model of a folder: its architecture, and its weights where the stage names no other model."""

    path: str | None = execution(None)
    """A Hugging Face folder (config.json and safetensors, whole or in shards) of a family that is installed, or a run
    directory. What it holds is part of the key, and where it lies is not."""

    def check(self) -> Iterator[Problem | str]:
        yield from _unreadable(self.path)

    def provides(self) -> frozenset[str]:
        """``weights``, and what the model's own architecture offers."""
        settings = self._settings()
        return frozenset({"weights"}) | (settings.provides() if settings is not None else frozenset())

    def spec(self) -> DecoderSpec | None:
        """The decoder spec of the model's own architecture; None where that is no standard decoder."""
        tell = getattr(self._settings(), "spec", None)
        spec: DecoderSpec | None = tell() if callable(tell) else None
        return spec

    def weights(self) -> Path | None:
        """The model folder."""
        return _model(self.path)

    def _settings(self) -> Any:
        """Those of the model's own architecture; None where they cannot be read, which ``check`` tells."""
        from lmgraft.loading import settings_for

        try:
            return settings_for(_model(self.path))[1] if self.path else None
        except UserError:
            return None


@dataclass
class PretrainedStage(StageConfig):
    """Takes somebody's model as it is; the artifact is a Hugging Face model folder with its tokenizer."""

    artifact: ClassVar[str] = "model"

    path: str | None = execution(None)
    """A Hugging Face folder (config.json and safetensors, whole or in shards) of a family that is installed, or a run
    directory. What it holds is part of the key, and where it lies is not."""
    tokenizer: str | None = from_stage("tokenizer", default=None, optional=True)
    """The stage whose tokenizer goes with the model and gives the ids of its rows; null takes the folder's own."""

    def check(self) -> Iterator[Problem | str]:
        yield from _unreadable(self.path)


@hookimpl
def lmgraft_architecture() -> list[Component[Any]]:
    return [
        Component(
            name="pretrained",
            target="lmgraft_pretrained.architecture:Pretrained",
            config=PretrainedConfig,
            summary="Somebody's model folder: its architecture, and its weights to go on",
        )
    ]


@hookimpl
def lmgraft_stage() -> list[Component[Any]]:
    return [
        Component(
            name="pretrained",
            target="lmgraft_pretrained.stage:TakeModel",
            config=PretrainedStage,
            summary="Somebody's model folder as it is, for the stages after it",
        )
    ]
