"""The Python API, notebooks included: :func:`run` and :class:`Run`. ``lmgraft.load`` stands in ``lmgraft.loading``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Run", "open_run", "run"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory, read."""

    dir: Path
    data: Mapping[str, Any]

    @property
    def scores(self) -> list[dict[str, Any]]:
        """``{stage, evaluator, name, value, unit, ...}`` of every score."""
        return [dict(score) for score in self.data.get("scores", ())]

    @property
    def artifacts(self) -> dict[str, Path]:
        """Stage -> its artifact's folder."""
        from lmgraft.rundir import linked

        found = {name: linked(self.dir, name) for name in self.data.get("stages", {})}
        return {name: path for name, path in found.items() if path is not None}

    @property
    def report(self) -> Path:
        return self.dir / "report.html"

    def metrics(self, stage: str | None = None) -> Iterator[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        import json

        with open(self.dir / "metrics.jsonl", encoding="utf-8") as rows:
            for line in rows:
                row = json.loads(line)
                if stage is None or row["stage"] == stage:
                    yield row

    def score(self, name: str, stage: str | None = None) -> float:
        """One score by name; raises KeyError where there is none."""
        for score in self.scores:
            if score["name"] == name and stage in (None, score["stage"]):
                return float(score["value"])
        raise KeyError(name)


def open_run(folder: str | Path) -> Run:
    """A finished or running run by its directory."""
    from lmgraft import manifest
    from lmgraft.errors import Problem, UserError

    place = Path(folder).expanduser()
    try:
        return Run(place, manifest.read(place))
    except (OSError, ValueError) as error:
        cause = "there is no run.json in it" if not (place / manifest.FILE).is_file() else str(error)
        raise UserError(Problem(f"{place} is no run directory", cause, "lmgraft runs lists them")) from error


def run(recipe: str, overrides: Sequence[str] = (), *, quiet: bool = False) -> Run:
    """Composes, checks and runs a recipe, as ``lmgraft run`` does; raises :class:`lmgraft.errors.UserError`.

    ``run("quickstart", ["pretrain.optimizer.lr=3e-4"]).score("bits_per_byte")``
    """
    from lmgraft import compose
    from lmgraft import recipe as recipes
    from lmgraft.console import Console
    from lmgraft.rundir import default_run_dir
    from lmgraft.runner import Options, Runner

    ref = compose.resolve(recipe)
    typed = recipes.read(compose.compose(ref, overrides), ref.name, ref.given)
    folder = typed.run_dir or default_run_dir(ref.name)
    options = Options(source=str(ref.file) if not ref.installed else ref.name, overrides=tuple(overrides))
    data = Runner(typed, options=options, console=Console(quiet=quiet)).run(folder)
    return Run(folder, data)
