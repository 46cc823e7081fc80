"""Model folders that a command reads, and the new folder that it writes whole or not at all."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lmgraft.errors import Problem, Stopped, UserError

__all__ = ["bad_out", "model", "run_of", "stage_of_run", "whole"]

_REMEDY = "name an OUT where you may write and where there is room"


def model(text: str) -> Path:
    """A folder that holds a whole model; of a run directory the last one, or with ``RUN:STAGE`` a stage's.

    :raises UserError: there is none.
    """
    from lmgraft import loading
    from lmgraft.artifacts import checkpoint

    place = stage_of_run(text) or Path(text).expanduser()
    if not place.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        remedy = f"check the path; a model of the Hugging Face hub is fetched by hf download {text} --local-dir FOLDER"
        raise UserError(Problem(f"{text} holds no model", "there is no such folder", remedy))
    if place.is_file():
        raise UserError(Problem(f"{text} is a file", "a model is a folder with a config.json", f"{place.parent}"))
    folder = loading.model_folder(place)
    checkpoint.verify(folder)
    return folder


def run_of(text: str) -> tuple[Path, str] | None:
    """The run directory that is named, and the stage, if one is (``RUN:STAGE``); None: the text names no run."""
    from lmgraft import manifest

    whole_text = Path(text).expanduser()
    run, colon, stage = text.rpartition(":")
    if whole_text.exists() or not colon:
        return (whole_text, "") if (whole_text / manifest.FILE).is_file() else None
    folder = Path(run).expanduser()
    return (folder, stage) if (folder / manifest.FILE).is_file() else None


def stage_of_run(text: str) -> Path | None:
    """The artifact of ``RUN:STAGE``; None where the text names no stage that way.

    :raises UserError: the run has no such stage, or it has not ended.
    """
    from lmgraft.api import open_run
    from lmgraft.rundir import linked

    named = run_of(text)
    if named is None or not named[1]:
        return None
    run, stage = named
    stages = list(open_run(run).data.get("stages") or {})
    if stage not in stages:
        close = difflib.get_close_matches(stage, stages, 1)
        remedy = f"{run}:{close[0]}" if close else f"its stages: {', '.join(stages) or 'none yet'}"
        raise UserError(Problem(f"the run {run} has no stage {stage}", "run.json does not list it", remedy))
    place = linked(run, stage)
    if place is None:
        cause = "the stage has not ended, or what it made was removed"
        raise UserError(Problem(f"{text} holds nothing yet", cause, "lmgraft run the recipe to its end"))
    return place


def bad_out(out: Path, models: Sequence[Path]) -> Iterator[Problem]:
    """What is wrong with the place of the result: it is one of ``models``, lies in one, or holds something."""
    real = out.resolve()
    for folder in models:
        if real == folder.resolve():
            yield Problem(f"OUT is the model itself: {out}", "models are left as they are", "name a new folder as OUT")
            return
        if folder.resolve() in real.parents:
            yield Problem(f"{out} lies within {folder}", "models are left as they are", "name a folder outside of it")
            return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        cause = "it is not empty" if out.is_dir() else "it is a file"
        yield Problem(f"{out} is there already", f"{cause}, and nothing is written over", "name a new folder as OUT")


@contextmanager
def whole(out: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
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
    # Whatever the system says here, it says of OUT.
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(_refused(out, error)) from error
    try:
        partial.mkdir()
    except FileExistsError:
        cause = "another command is writing it, or was killed while it did"
        raise UserError(Problem(f"{partial} is there already", cause, f"wait, or rm -r {partial}")) from None
    except OSError as error:
        raise UserError(_refused(out, error)) from error
    return above


def _unwritable(out: Path, error: OSError) -> OSError | UserError:
    from lmgraft.cli._os_errors import as_problem

    if as_problem(error) is None and error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EIO):
        return error
    return UserError(_refused(out, error))


def _refused(out: Path, error: OSError) -> Problem:
    return Problem(f"{out} cannot be written", error.strerror or str(error), _REMEDY)
