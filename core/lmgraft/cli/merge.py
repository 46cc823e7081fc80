"""``lmgraft merge``: one model made of one or several, by any installed merge part, from folders to a folder."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft import table
from lmgraft.errors import Problem, Stopped, UserError
from lmgraft.stages._models_taken import miscounted

if TYPE_CHECKING:
    from lmgraft.cli._settings import Setting
    from lmgraft.component import Component

__all__ = ["merge"]

_REMEDY = "name an OUT where you may write and where there is room"


class _Methods(click.Group):
    """Its commands are the installed parts of the door ``merge``; a part is imported when it is called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({row.name for row in table.rows() if row.seam == "merge"})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from lmgraft.registry import registry

        try:
            return _command(registry().get("merge", name, "lmgraft merge").component)
        except UserError:
            if ctx.resilient_parsing:  # a shell completes a name half typed
                return None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from lmgraft.registry import registry

        rows = []
        for name in self.list_commands(ctx):
            try:
                rows.append((name, registry().get("merge", name).component.summary))
            except UserError as error:
                rows.append((name, f"cannot be used: {error.problems[0].cause}"))
        with formatter.section("Methods"):
            formatter.write_dl(rows or [("none", "pip install a distribution that brings one")])


@click.group(
    cls=_Methods,
    subcommand_metavar="METHOD IN... OUT [SETTINGS]",
    epilog="""\b
Examples:
  lmgraft merge dus mistral-7b/ solar-10b/ --drop 8
  lmgraft merge linear math/ code/ both/ --weights 0.6,0.4
  lmgraft merge ties base/ math/ code/ both/ --density 0.2
  lmgraft merge slerp --help                           the settings of a method""",
)
def merge() -> None:
    """Makes one model of one or several: Hugging Face folders with safetensors, of lmgraft or of others.

    IN are model folders, run directories or their stages (RUN:STAGE), which are left as they are; OUT is a new folder.
    """


def _command(component: Component[Any]) -> click.Command:
    """The command of one part: its settings are the options."""
    from lmgraft.cli._settings import settings_of

    settings = list(settings_of(component.config))
    takes = _takes_tokenizer(component)

    def call(paths: tuple[str, ...], tokenizer: str | None = None, **given: Any) -> int:
        try:
            return _merge(component, settings, paths, given, tokenizer)
        except UserError as error:
            from lmgraft.cli._settings import in_options

            raise UserError([in_options(problem, settings) for problem in error.problems]) from error

    argument = click.Argument(["paths"], nargs=-1, metavar="IN... OUT", type=click.Path())
    return click.Command(
        component.name,
        callback=call,
        params=[argument, *([_tokenizer_option()] if takes else []), *(setting.click_option() for setting in settings)],
        help=f"{component.summary}.",
        epilog=_examples(component, settings, takes),
    )


def _takes_tokenizer(component: Component[Any]) -> bool:
    """See :class:`lmgraft.seams.merge.MergeConfig`."""
    return bool(getattr(component.config, "takes_tokenizer", False))


def _tokenizer_option() -> click.Option:
    told = (
        "The vocabulary of the result: a folder with a tokenizer.json and a tokenizer_config.json, which go with it, or"
        " a stage of a run, RUN:STAGE."
    )
    return click.Option(["--tokenizer"], metavar="FOLDER", type=click.Path(), help=told)


def _examples(component: Component[Any], settings: Sequence[Setting], takes: bool) -> str:
    name, own = component.name, getattr(component.config, "examples", ())
    if own:
        return "\n".join(["\b", "Examples:", *(f"  lmgraft merge {name} {text}" for text in own)])
    plain = " ".join(["MODEL OUT", *(setting.sample() for setting in settings if setting.required)])
    plain += " --tokenizer FOLDER" * takes
    lines = [f"  lmgraft merge {name} {plain}"]
    others = [setting for setting in settings if not setting.required]
    # What takes a value says more than a flag.
    chosen = sorted(others, key=lambda setting: setting.shape == "flag")[:1]
    lines += [f"  lmgraft merge {name} {plain} {setting.sample()}" for setting in chosen]
    return "\n".join(["\b", "Examples:", *lines])


def _merge(
    component: Component[Any],
    settings: Sequence[Setting],
    paths: Sequence[str],
    given: dict[str, Any],
    tokenizer: str | None,
) -> int:
    from lmgraft import registry
    from lmgraft.cli._settings import config_of
    from lmgraft.console import Console
    from lmgraft.stages import merge as stage

    config = config_of(component.config, component.name, settings, given)
    models, out = _places(component, paths)
    words = _tokenizer(tokenizer) if tokenizer is not None else None
    part = registry.build(component, config)
    started = time.monotonic()
    with Console().progress("merging", None, "B") as bar, _whole(out) as (folder, alive):
        reached = 0

        def progress(done: int, total: int) -> None:
            nonlocal reached
            alive()
            bar.total(total)
            bar.advance(done - reached)
            reached = done

        stage.merge(part, models, folder, progress, tokenizer=words)
    _report(models, out, time.monotonic() - started)
    return 0


def _places(component: Component[Any], paths: Sequence[str]) -> tuple[list[Path], Path]:
    """The model folders and the place of the result, which is not there yet.

    :raises UserError: with everything that is wrong with them.
    """
    method = component.name
    if len(paths) < 2:
        said = f"only {paths[0]} is named" if paths else "no folder is named"
        cause = f"{said}; the last folder is where the result goes, those before it hold the models"
        raise UserError(Problem(f"lmgraft merge {method} lacks a folder", cause, f"lmgraft merge {method} MODEL OUT"))
    problems: list[Problem] = []
    wrong = miscounted(method, component.config, len(paths) - 1)
    if wrong is not None:
        shown = f"IN is {' '.join(paths[:-1])} and OUT is {paths[-1]}"
        problems.append(Problem(wrong[0], f"{wrong[1]}: {shown}", f"lmgraft merge {method} --help has examples"))
    models = []
    for text in paths[:-1]:
        try:
            models.append(_model(text))
        except UserError as error:
            problems += error.problems
    out = Path(paths[-1]).expanduser()
    problems += _bad_out(out, models)
    if problems:
        raise UserError(problems)
    return models, out


def _model(text: str) -> Path:
    """A folder that holds a whole model."""
    from lmgraft import loading
    from lmgraft.artifacts import checkpoint

    place = _stage_of_run(text) or Path(text).expanduser()
    if not place.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        remedy = f"check the path; a model of the Hugging Face hub is fetched by hf download {text} --local-dir FOLDER"
        raise UserError(Problem(f"{text} holds no model", "there is no such folder", remedy))
    if place.is_file():
        raise UserError(Problem(f"{text} is a file", "a model is a folder with a config.json", f"{place.parent}"))
    folder = loading.model_folder(place)
    checkpoint.verify(folder)
    return folder


def _stage_of_run(text: str) -> Path | None:
    """The artifact of ``RUN:STAGE``; None where the text names no run that way.

    :raises UserError: the run has no such stage, or it has not ended.
    """
    from lmgraft import manifest
    from lmgraft.rundir import linked

    run, colon, stage = text.rpartition(":")
    folder = Path(run).expanduser()
    if not colon or Path(text).expanduser().exists() or not (folder / manifest.FILE).is_file():
        return None
    stages = list(manifest.read(folder).get("stages") or {})
    if stage not in stages:
        close = difflib.get_close_matches(stage, stages, 1)
        remedy = f"{run}:{close[0]}" if close else f"its stages: {', '.join(stages) or 'none yet'}"
        raise UserError(Problem(f"the run {run} has no stage {stage}", "run.json does not list it", remedy))
    place = linked(folder, stage)
    if place is None:
        cause = "the stage has not ended, or what it made was removed"
        raise UserError(Problem(f"{text} holds nothing yet", cause, "lmgraft run the recipe to its end"))
    return place


def _tokenizer(text: str) -> Path:
    """A folder that holds a whole tokenizer."""
    place = _stage_of_run(text) or Path(text).expanduser()
    if place.is_file():
        whole = place.name == "tokenizer.json"
        remedy = f"--tokenizer {place.parent}" if whole else "--tokenizer FOLDER of a stage whose part is pretrained"
        raise UserError(Problem(f"--tokenizer {text} is a file", "a tokenizer is a folder", remedy))
    missing = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (place / name).is_file()]
    if missing:
        cause = f"it holds no {' and no '.join(missing)}" if place.is_dir() else "there is no such folder"
        remedy = "name the folder of a tokenizer stage, or of a model: runs/RECIPE/TIME/stages/tokenizer"
        stages = sorted(found.parent for found in place.glob("stages/*/tokenizer.json"))  # of a run directory
        if stages:
            remedy = " or ".join(f"--tokenizer {stage}" for stage in stages)
        raise UserError(Problem(f"--tokenizer {text} holds no tokenizer", cause, remedy))
    return place


def _bad_out(out: Path, models: Sequence[Path]) -> Iterator[Problem]:
    real = out.resolve()
    for model in models:
        if real == model.resolve():
            yield Problem(f"OUT is IN: {out}", "a merge leaves its models as they are", "name a new folder as OUT")
            return
        if model.resolve() in real.parents:
            yield Problem(
                f"{out} lies within {model}", "a merge leaves its models as they are", "name a folder outside of it"
            )
            return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        cause = "it is not empty" if out.is_dir() else "it is a file"
        yield Problem(f"{out} is there already", f"{cause}, and nothing is written over", "name a new folder as OUT")


@contextmanager
def _whole(out: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Gives a folder that becomes OUT when the block ends well, and goes when it does not; and a function that raises
    Stopped after a signal.

    The folder lies beside OUT and is renamed. Where OUT is there and empty it may be a mounted disk, or the folder that
    the command was called in: then it lies within, and its files are moved up, those last that make a model of them.
    """
    from lmgraft.signals import StopRequest

    real = out.resolve()
    within = real.is_dir()
    partial = real / "partial" if within else real.with_name(f"{real.name}.partial")
    made = _make(partial, out)
    stop = StopRequest()

    def alive() -> None:
        if stop.signal is not None:
            name = signal.Signals(stop.signal).name
            raise Stopped(f"stopped on {name}; {out} was not written, and the same command starts it anew")

    done = False
    try:
        with stop:
            yield partial, alive
            alive()
            if within:
                for file in sorted(partial.iterdir(), key=lambda file: file.suffix == ".json"):
                    os.rename(file, real / file.name)
                partial.rmdir()
            else:
                os.rename(partial, real)
            done = True
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        if not done:
            shutil.rmtree(partial, ignore_errors=True)
            for folder in made:
                with suppress(OSError):  # somebody else has put something there
                    folder.rmdir()


def _make(partial: Path, out: Path) -> list[Path]:
    """Makes the folder and those above it; gives the latter, the lowest first."""
    above = [folder for folder in partial.parents if not folder.exists()]
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        partial.mkdir()
    except FileExistsError:
        cause = "another merge is writing it, or was killed while it did"
        raise UserError(Problem(f"{partial} is there already", cause, f"wait, or rm -r {partial}")) from None
    except OSError as error:
        raise _unwritable(out, error) from error
    return above


def _unwritable(out: Path, error: OSError) -> OSError | UserError:
    from lmgraft.cli._os_errors import as_problem

    if as_problem(error) is None and error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EIO):
        return error
    return UserError(Problem(f"{out} cannot be written", error.strerror or str(error), _REMEDY))


def _report(models: Sequence[Path], out: Path, seconds: float) -> None:
    from lmgraft.artifacts import checkpoint
    from lmgraft.cli.store import human
    from lmgraft.console import duration
    from lmgraft.stages.merge import depth, vocabulary

    size = sum(file.stat().st_size for file in out.iterdir())
    counts = ", ".join(f"{checkpoint.parameters(model):,}" for model in models)
    layers = ", ".join(str(depth(model)) for model in models)
    print(f"{out}: {human(size)} in {duration(seconds)}")
    if depth(out) is not None:
        print(f"  layers      {depth(out)} ({layers} before)")
    sizes = [vocabulary(model) for model in models]
    if any(size != vocabulary(out) for size in sizes):
        print(f"  vocabulary  {vocabulary(out)} ({', '.join(map(str, sizes))} before)")
    print(f"  parameters  {checkpoint.parameters(out):,} ({counts} before)")
    if (out / "tokenizer.json").is_file():
        print(f'\nNext:\n  lmgraft generate {out} "Once upon a time"')
