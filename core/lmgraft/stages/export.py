"""The kind of stage ``export``: a model in the format in which it leaves.

``lmgraft export`` does the same to folders of the user's own, by way of :func:`export`. What a card tells belongs to
the artifact's bytes, so it is part of the key: the facts that the exporter's settings ask for
(``lmgraft.seams.exporter.ExporterConfig.asks``), and no others. Versions and times are no facts of an artifact, which
is the same whenever it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft import known as facts
from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Problem, UserError
from lmgraft.seams.exporter import InformedExporter, Known
from lmgraft.stages.export_settings import ExportStage

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.exporter import Exporter
    from lmgraft.seams.stage import StageContext

__all__ = ["Export", "export"]


class Export:
    """Satisfies :class:`lmgraft.seams.stage.Stage`; :class:`~lmgraft.stages.export_settings.ExportStage` has its
    settings."""

    artifact = "export"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, ExportStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """The facts that are told, scores apart: those are an input, and have their place in the key as one."""
        names = [name for name in self._asks(context) if name != "scores"]
        told = facts.as_plain(self._known(context), names)
        return {"facts": told} if told else {}

    def run(self, context: StageContext) -> None:
        """Exporting starts over after a kill: it reads and writes at the speed of the disk."""
        model = context.inputs["model"][0].path
        known = facts.asked(self._known(context), self._asks(context))
        with context.progress(f"exporting {context.name}", None, "B") as bar:
            reached = 0

            def progress(done: int, total: int) -> None:
                nonlocal reached
                context.alive()
                bar.total(total)
                bar.advance(done - reached)
                reached = done

            export(context.part("exporter"), model, context.out, known, progress)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        files = [path for path in artifact.path.rglob("*") if path.is_file()]
        yield "files", ", ".join(sorted(path.name for path in files)) if len(files) < 4 else str(len(files))
        yield "size", f"{sum(path.stat().st_size for path in files) / 1e6:,.1f} MB"

    def _asks(self, context: StageContext) -> list[str]:
        _, config = context.component("exporter")
        return list(getattr(config, "asks", ()))

    def _known(self, context: StageContext) -> Known:
        model = context.inputs["model"][0]
        lineage = facts.lineage([facts.described(stage) for stage in context.upstream], model.stage)
        return Known(
            name=self.config.name or context.recipe,
            license=self.config.license or "",
            languages=tuple(self.config.languages),
            recipe=context.recipe,
            stages=facts.stages(lineage),
            sources=facts.sources(lineage, self.config.licenses),
            scores=tuple(self._scores(context, model.stage)),
        )

    def _scores(self, context: StageContext, stage: str) -> Iterator[Mapping[str, Any]]:
        from lmgraft.artifacts import scores

        for artifact in context.inputs.get("scores") or ():
            yield from (row for row in scores.read(artifact.path) if row["stage"] == stage)


def export(
    part: Exporter,
    model: Path,
    out: Path,
    known: Known,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the model to ``out`` in the part's format; an :class:`InformedExporter` is told ``known`` and how far.

    :raises UserError: the model is broken, or the format cannot hold it.
    """
    checkpoint.verify(model)
    progress(0, 1)  # who asks to stop is heard before anything is written
    if isinstance(part, InformedExporter):
        part.export_informed(model, out, known, progress)
    else:
        part.export(model, out)
        progress(1, 1)
    if not any(path.is_file() for path in out.rglob("*")):
        name = type(part).__name__
        cause = "it wrote no file"
        raise UserError(Problem(f"the exporter {name} made nothing of {model}", cause, "tell the part's author"))
