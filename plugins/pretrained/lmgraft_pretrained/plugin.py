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

__all__ = ["PretrainedConfig", "PretrainedStage", "folder_of"]


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


def folder_of(path: str | None) -> Path:
    """The model folder that ``path`` names, of a run directory the last one."""
    from lmgraft.loading import model_folder

    return model_folder(_folder(path))


def _settings(path: str | None) -> Any:
    """Those of the model's own architecture; None where they cannot be read, which ``check`` tells."""
    from lmgraft.loading import settings_for

    try:
        return settings_for(folder_of(path))[1] if path else None
    except UserError:
        return None


def _spec(path: str | None) -> DecoderSpec | None:
    tell = getattr(_settings(path), "spec", None)
    spec: DecoderSpec | None = tell() if callable(tell) else None
    return spec


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
        settings = _settings(self.path)
        return frozenset({"weights"}) | (settings.provides() if settings is not None else frozenset())

    def spec(self) -> DecoderSpec | None:
        """The decoder spec of the model's own architecture; None where that is no standard decoder."""
        return _spec(self.path)

    def weights(self) -> Path | None:
        """The model folder."""
        return folder_of(self.path)


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

    def provides(self) -> frozenset[str]:
        """What the model's own architecture offers."""
        settings = _settings(self.path)
        return frozenset() if settings is None else settings.provides()

    def spec(self) -> DecoderSpec | None:
        """The decoder spec of the model; None where it is no standard decoder."""
        return _spec(self.path)


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
