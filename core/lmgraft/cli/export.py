"""``lmgraft export``: a model in another format, by any installed exporter, from a folder to a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli import _folders
from lmgraft.cli._parts import parts_of
from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from lmgraft.cli._settings import Setting
    from lmgraft.component import Component
    from lmgraft.seams.exporter import Known

__all__ = ["export"]


@click.group(
    cls=parts_of("exporter", title="Formats", command=lambda component: _command(component)),
    subcommand_metavar="FORMAT MODEL OUT [SETTINGS]",
    epilog="""\b
Examples:
  lmgraft export hf runs/quickstart/2026-01-31_12-00-00 out/ --license apache-2.0
  lmgraft export gguf runs/solar/2026-01-31_12-00-00:sft model-gguf/ --type q8_0
  lmgraft export gguf mistral-7b/ mistral-gguf/ --type q4_0
  lmgraft export gguf --help                           the settings of a format""",
)
def export() -> None:
    """Writes a model in another format.

    MODEL is a model folder, of lmgraft or of others, or a run directory: its last model is taken, or with RUN:STAGE a
    stage's, and recipe, sources and scores are told in a model card. It is left as it is; OUT is a new folder.
    """


def _command(component: Component[Any]) -> click.Command:
    """The command of one part: its settings are the options, beside what a user may know of his model."""
    from lmgraft.cli._settings import settings_of

    settings = list(settings_of(component.config))
    asks = tuple(getattr(component.config, "asks", ()))

    def call(paths: tuple[str, ...], **given: Any) -> int:
        told = {fact: given.pop(f"known_{fact}") for fact in _TOLD if f"known_{fact}" in given}
        try:
            return _export(component, settings, paths, given, told)
        except UserError as error:
            from lmgraft.cli._settings import in_options

            raise UserError([in_options(problem, settings) for problem in error.problems]) from error

    argument = click.Argument(["paths"], nargs=-1, metavar="MODEL OUT", type=click.Path())
    return click.Command(
        component.name,
        callback=call,
        params=[argument, *_known_options(asks), *(setting.click_option() for setting in settings)],
        help=f"{component.summary}.",
        epilog=_examples(component.name, settings, asks),
    )


#: Facts that a user tells -> option, placeholder, help, whether it may be given several times.
_TOLD = {
    "name": ("--name", "TEXT", "What to call the model.  [default: the recipe's name]", False),
    "license": ("--license", "TEXT", "The model's licence, best an SPDX identifier.  [default: not known]", False),
    "languages": ("--language", "CODE", "A language of the model (en, de); several times for several.", True),
}


def _known_options(asks: Sequence[str]) -> list[click.Option]:
    return [
        click.Option([f"known_{fact}", option], metavar=metavar, help=text, multiple=many)
        for fact, (option, metavar, text, many) in _TOLD.items()
        if fact in asks
    ]


def _examples(name: str, settings: Sequence[Setting], asks: Sequence[str]) -> str:
    plain = " ".join(["MODEL OUT", *(setting.sample() for setting in settings if setting.required)])
    lines = [f"  lmgraft export {name} {plain}"]
    others = [setting for setting in settings if not setting.required]
    chosen = sorted(others, key=lambda setting: setting.shape == "flag")[:1]
    lines += [f"  lmgraft export {name} {plain} {setting.sample()}" for setting in chosen]
    if "license" in asks:
        lines.append(f"  lmgraft export {name} {plain} --license apache-2.0")
    return "\n".join(["\b", "Examples:", *lines])


def _export(
    component: Component[Any],
    settings: Sequence[Setting],
    paths: Sequence[str],
    given: dict[str, Any],
    told: dict[str, Any],
) -> int:
    from lmgraft import known as facts
    from lmgraft import registry
    from lmgraft.cli._settings import config_of
    from lmgraft.console import Console
    from lmgraft.stages import export as stage

    config = config_of(component.config, component.name, settings, given, "lmgraft export")
    model, out = _places(component.name, paths)
    problems = list(_bad_facts(told))
    if problems:
        raise UserError(problems)
    known = facts.asked(_known(paths[0], model, told), getattr(config, "asks", ()))
    part = registry.build(component, config)
    started = time.monotonic()
    with Console().progress("exporting", None, "B") as bar, _folders.whole(out) as (folder, alive):
        reached = 0

        def progress(done: int, total: int) -> None:
            nonlocal reached
            alive()
            bar.total(total)
            bar.advance(done - reached)
            reached = done

        stage.export(part, model, folder, known, progress)
    _report(out, time.monotonic() - started, known)
    return 0


def _places(name: str, paths: Sequence[str]) -> tuple[Path, Path]:
    """The model folder, and the place of the result, which is not there yet.

    :raises UserError: with everything that is wrong with them.
    """

    if len(paths) != 2:
        said = (
            f"{len(paths)} are named" if len(paths) > 1 else f"only {paths[0]} is named" if paths else "none is named"
        )
        cause = f"{said}; it takes two, the model and a new folder for the result"
        raise UserError(Problem(f"lmgraft export {name} wants two folders", cause, f"lmgraft export {name} MODEL OUT"))
    problems: list[Problem] = []
    model, out = Path(paths[0]).expanduser(), Path(paths[1]).expanduser()
    try:
        model = _folders.model(paths[0])
    except UserError as error:
        problems += error.problems
    problems += _folders.bad_out(out, [model])
    if problems:
        raise UserError(problems)
    return model, out


def _bad_facts(told: dict[str, Any]) -> list[Problem]:
    from lmgraft import languages
    from lmgraft.stages.export_settings import ExportStage

    config = ExportStage(name=told.get("name"), license=told.get("license"))
    found = []
    for text in config.check():
        field, _, cause = text.partition(" ")
        option = _TOLD[field][0]
        found.append(
            Problem(f"{option} does not fit: {cause.partition(';')[0]}", cause.partition(";")[2], f"{option} TEXT")
        )
    for code in told.get("languages") or ():
        wrong = languages.wrong(code)
        if wrong is not None:
            cause, meant = wrong
            found.append(Problem(f"--language {code} is no language's code", cause, f"--language {meant or 'CODE'}"))
    return found


def _known(text: str, model: Path, told: dict[str, Any]) -> Known:
    """What the run says of its model, where a run directory was named, and what the user says."""
    from lmgraft import known as facts
    from lmgraft import manifest
    from lmgraft.seams.exporter import Known

    mine: dict[str, Any] = {
        "name": told.get("name") or "",
        "license": told.get("license") or "",
        "languages": tuple(told.get("languages") or ()),
    }
    named = _folders.run_of(text)
    if named is None:
        return Known(**mine)
    place, data = named[0], manifest.read(named[0])
    stage = next((one for one in data.get("stages", {}) if _same(place / "stages" / one, model)), "")
    lineage = facts.lineage(facts.from_run(data), stage)
    recipe = str(data.get("recipe_name") or "")
    return Known(
        **{**mine, "name": mine["name"] or recipe},
        recipe=recipe,
        stages=facts.stages(lineage),
        sources=facts.sources(lineage, {}),
        scores=facts.scores(data, stage),
        versions=facts.versions(data),
    )


def _same(place: Path, model: Path) -> bool:
    return place.exists() and place.resolve() == model.resolve()


def _report(out: Path, seconds: float, known: Known) -> None:
    from lmgraft.cli.store import human
    from lmgraft.console import duration

    files = sorted(path for path in out.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    print(f"{out}: {human(size)} in {duration(seconds)}")
    for path in files:
        print(f"  {path.relative_to(out)}  {human(path.stat().st_size)}")
