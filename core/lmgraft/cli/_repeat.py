"""What of a manifest may be given again: run.json is a file, so its overrides are judged as a recipe's are."""

from __future__ import annotations

from pathlib import Path

from lmgraft.api import Run
from lmgraft.errors import Problem, UserError

__all__ = ["overrides_of", "quoted"]


def quoted(folder: Path) -> str:
    """A path as a value of Hydra's grammar."""
    text = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def overrides_of(opened: Run, given: set[str]) -> list[str]:
    """The overrides of a run without its run.dir and the ``given`` keys, and with the store that it used.

    A store is taken from the manifest only where there is one already: another path could lead anywhere.
    """
    from lmgraft import untrusted

    where = f"{opened.dir / 'run.json'}: overrides"
    lines = [line for line in opened.data["overrides"] if not line.startswith(("run.dir=", "store.dir="))]
    problems = [
        Problem(f"{where}: {line}", problem.cause, "lmgraft run, with the override on the command line")
        for line in lines
        for problem in untrusted.judge_override(line, where)
    ]
    store = Path(str(opened.data.get("store", "")))
    if "store.dir" not in given:
        named = [line for line in opened.data["overrides"] if line.startswith("store.dir=")]
        if named and not (store / "format.json").is_file():
            cause = "there is no store in that place, and a file does not choose where to make one"
            problems.append(Problem(f"{where}: {named[0]}", cause, "store.dir=PATH on the command line"))
        lines.append(f"store.dir={quoted(store)}" if (store / "format.json").is_file() else "store.dir=null")
    if problems:
        raise UserError(problems)
    return [line for line in lines if line.partition("=")[0] not in given]
