"""``lmgraft merge``: one model made of one or several, by any installed merge part, from folders to a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli import _folders
from lmgraft.cli._parts import parts_of
from lmgraft.errors import Problem, UserError
from lmgraft.stages._models_taken import miscounted

if TYPE_CHECKING:
    from lmgraft.cli._settings import Setting
    from lmgraft.component import Component

__all__ = ["merge"]


@click.group(
    cls=parts_of("merge", title="Methods", command=lambda component: _command(component)),
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
    from lmgraft import openers, registry
    from lmgraft.cli._settings import config_of
    from lmgraft.console import Console
    from lmgraft.stages import merge as stage

    config = config_of(component.config, component.name, settings, given, "lmgraft merge")
    models, out = _places(component, paths)
    place = nullcontext() if tokenizer is None else openers.readable(_tokenizer(tokenizer))
    part = registry.build(component, config)
    started = time.monotonic()
    with place as words, Console().progress("merging", None, "B") as bar, _folders.whole(out) as (folder, alive):
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
            models.append(_folders.model(text))
        except UserError as error:
            problems += error.problems
    out = Path(paths[-1]).expanduser()
    problems += _folders.bad_out(out, models)
    if problems:
        raise UserError(problems)
    return models, out


def _tokenizer(text: str) -> Path:
    """A folder that holds a whole tokenizer, of lmgraft's or of somebody else's."""
    from lmgraft import openers

    place = _folders.stage_of_run(text) or Path(text).expanduser()
    if place.is_file():
        whole = place.name == "tokenizer.json"
        remedy = f"--tokenizer {place.parent}" if whole else "--tokenizer FOLDER of a stage whose part is pretrained"
        raise UserError(Problem(f"--tokenizer {text} is a file", "a tokenizer is a folder", remedy))
    missing = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (place / name).is_file()]
    if missing and not openers.is_opened(place):
        cause = f"it holds no {' and no '.join(missing)}" if place.is_dir() else "there is no such folder"
        remedy = "name the folder of a tokenizer stage, or of a model: runs/RECIPE/TIME/stages/tokenizer"
        stages = sorted(found.parent for found in place.glob("stages/*/tokenizer.json"))  # of a run directory
        if stages:
            remedy = " or ".join(f"--tokenizer {stage}" for stage in stages)
        raise UserError(Problem(f"--tokenizer {text} holds no tokenizer", cause, remedy))
    return place


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
    if any((out / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        print(f'\nNext:\n  lmgraft generate {out} "Once upon a time"')
