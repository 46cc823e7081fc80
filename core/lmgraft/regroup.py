"""What Hydra raises about groups, choices and the defaults list, said again in three lines, without its search path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lmgraft import configs, places, table
from lmgraft.errors import Problem
from lmgraft.phrases import a, part_names
from lmgraft.version import DOORS, MANY, SEAMS, several

if TYPE_CHECKING:
    from lmgraft.compose import RecipeRef

__all__ = ["problem"]

_GROUPS = (*SEAMS, *DOORS)


def problem(text: str, ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    """The problem behind one of Hydra's messages."""
    for pattern, say in _SAYINGS:
        match = re.search(pattern, text)
        if match:
            return say(match, ref, overrides)
    lines = [line.strip() for line in re.split(r"\n\s*(?:Config )?[Ss]earch path", text)[0].splitlines()]
    lines = [line for line in lines if line] or ["the defaults list cannot be composed"]
    cause = " ".join(lines[1:]) or lines[0]
    return Problem(f"{ref.file} cannot be composed", _named(cause, ref), "check its defaults list; docs/recipes.md")


def _named(text: str, ref: RecipeRef) -> str:
    return text.replace(configs.PRIMARY, ref.file.name)


def _file(path: str, ref: RecipeRef) -> str:
    """A config as the user knows it."""
    return str(ref.file) if path.removesuffix(".yaml") == ref.config_name else path


def _typed(key: str, overrides: Sequence[str]) -> str | None:
    """The override that names a group at the command line, as typed."""
    return next((line for line in overrides if line.lstrip("+~").partition("=")[0] == key), None)


def _from(key: str, ref: RecipeRef, overrides: Sequence[str]) -> str:
    return "the command line" if _typed(key, overrides) is not None else str(ref.file)


# --- names that are not there ---------------------------------------------------------------------------------------


def _missing(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    path = match.group(1).strip("/")
    group, _, name = path.rpartition("/")
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    where = "the command line" if any(word.search(line) for line in overrides) else str(ref.file)
    if group.split("/")[0] in _GROUPS:
        seam, _, part = path.partition("/")
        return _no_part(seam, part, where)
    seam = _close(group, _GROUPS) if group else ""
    if seam:
        entries = [*overrides, *places.entries(ref)]
        place = next((entry.partition("=")[0].partition("@")[2] for entry in entries if f"{group}@" in entry), "")
        guess = f"did you mean {seam}@{place or 'WHERE'}?"
        return Problem(f"there is no group {group!r} ({where})", f"groups are {', '.join(_GROUPS)}", guess)
    options = _beside(group, ref)
    cause = "no installed config and no file beside the recipe has that name"
    otherwise = "check its spelling; conf/ and the recipe's folder are searched"
    close = table.close(name, options) or (f"choose one of {', '.join(sorted(options))}" if options else otherwise)
    return Problem(f"there is no config {path} ({where})", cause, close)


def _no_part(seam: str, name: str, where: str) -> Problem:
    names = part_names(seam)
    cause = f"installed: {', '.join(names) or 'none'}"
    others = [other for other in table.seams_of(name) if other != seam]
    if others:
        cause += f"; {name} is {' and '.join(map(a, others))}"
    choose = f"choose one of {', '.join(names)}"
    brings = f"pip install the distribution that brings {name}; lmgraft plugins list"
    remedy = table.close(name, names) or (choose if others and names else brings)
    return Problem(f"there is no {seam} named {name!r} ({where})", cause, remedy)


def _beside(group: str, ref: RecipeRef) -> set[str]:
    """The configs of a group, installed or beside the recipe."""
    catalogues: list[configs.Catalogue] = [configs.InstalledCatalogue()]
    if not ref.installed:
        catalogues.append(configs.FolderCatalogue(ref.file))
    return {name for catalogue in catalogues for name in catalogue.children(group)[1]}


def _close(word: str, words: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.6)), "")


def _no_match(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    """A choice replaced that the defaults list never makes: the group or its place is misspelt, or left out."""
    key = match.group(1)
    group, at, place = key.partition("@")
    where, typed = _from(key, ref, overrides), _typed(key, overrides)
    value = (typed or "").partition("=")[2] or "NAME"
    if group not in _GROUPS and (at or _close(group, _GROUPS)):
        close = _close(group, _GROUPS)
        guess = f"did you mean {close}{at}{place}?" if close else "lmgraft plugins list shows the seams"
        return Problem(f"there is no group {group!r} ({where})", f"groups are {', '.join(_GROUPS)}", guess)
    if group not in _GROUPS:
        cause = f"no config chooses {group}, and no group has that name"
        return Problem(f"{key} cannot be replaced ({where})", cause, f"lmgraft run {ref.given} --info defaults")
    chosen = [other for other, seam in places.places(ref).items() if seam == group and other != place]
    likely = _close(place, chosen) if place else (chosen[0] if len(chosen) == 1 else "")
    cause = "the recipe's defaults list chooses nothing there"
    slot = place if several(group, place) or group not in MANY else place.rpartition(".")[0]
    if slot and places.seam_at(slot, ref) == group:  # a slot that the recipe leaves empty, or a key within one
        remedy = f"+{group}@{place}={value} chooses one"
    elif likely:
        remedy = f"did you mean {group}@{likely}={value}?"
    elif chosen and not place:
        remedy = " or ".join(f"{group}@{other}={value}" for other in chosen)
    else:
        remedy = (
            f"+{group}@{place or 'WHERE'}={value} adds it; lmgraft run {ref.given} --info defaults lists the choices"
        )
    return Problem(f"{key} ({where}) cannot be replaced", cause, remedy)


def _unset(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    group = match.group(1)
    names = part_names(group.partition("@")[0])
    return Problem(
        f"{group} is not chosen", "the recipe leaves the choice to you", f"{group}=NAME, of {', '.join(names)}"
    )


# --- the defaults list ----------------------------------------------------------------------------------------------


def _order(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    path, first, then = match.groups()
    fact = f"{_file(path, ref)}: `override {first.replace(' :', ':')}` stands before `{then}`"
    return Problem(fact, "what is overridden must be chosen by then", "move the `override ...` entries to the end")


def _two_selves(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    cause = "_self_ is the place of the file's own values among the others, and there is one"
    return Problem(f"{_file(match.group(1), ref)} lists _self_ twice", cause, "take one of the two out of its defaults")


def _twice(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key = match.group(1)
    typed = _typed(key, overrides)
    if typed is not None and typed.startswith("+"):
        fact = f"{key} is added (the command line)"
        return Problem(fact, "it is chosen twice: the recipe's defaults list has it too", f"{typed[1:]} replaces it")
    cause = "its defaults list chooses it twice"
    return Problem(f"{key} ({ref.file})", cause, "take one of the two entries out")


def _two_choices(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key, choice = match.groups()
    typed = _typed(key, overrides)
    if typed is not None and typed.startswith("+"):
        fact = f"{key} is added (the command line)"
        return Problem(fact, "the recipe's defaults list chooses another part there", f"{typed[1:]} replaces it")
    cause = "its defaults list makes two different choices for one place"
    remedy = f"take one of them out, or write the second as `- override {key}: {choice}`, at the end"
    return Problem(f"{key} ({ref.file})", cause, remedy)


# --- overrides ------------------------------------------------------------------------------------------------------


def _ambiguous(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key, _, value = match.group(1).partition("=")
    remedy = f"add --multirun to run each; {key}=[{value}] is a list, \"{key}='{value}'\" is text"
    return Problem(f"{key}={value} gives several values", "one run takes one value", remedy)


def _sweep(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    typed = match.group(1)
    return Problem(f"{typed} gives several values", "one run takes one value", "add --multirun to run each of them")


def _not_deleted(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key = match.group(1).partition("=")[0]
    group, _, place = key.partition("@")
    if several(group, place):
        cause = "the list there is chosen as a whole"
        return Problem(f"{key} is not deleted (the command line)", cause, f"{key}=[] takes none, {key}=[NAME] others")
    chosen = [other for other, seam in places.places(ref).items() if seam == group]
    close = _close(place, chosen) if place else next(iter(chosen), "")
    remedy = (
        f"did you mean ~{group}@{close}?" if close else f"lmgraft run {ref.given} --info defaults lists the choices"
    )
    cause = "the recipe's defaults list chooses nothing there"
    return Problem(f"{key} is not deleted (the command line)", cause, remedy)


def _other_value(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    key, value, typed = match.groups()
    return Problem(f"~{key}={typed} deletes nothing", f"the value there is {value}", f"~{key}, or ~{key}={value}")


def _there_already(match: re.Match[str], ref: RecipeRef, overrides: Sequence[str]) -> Problem:
    typed = match.group(1)
    key = typed.partition("=")[0]
    return Problem(f"+{typed} adds nothing", f"{key} is there already, and + adds a new key", typed)


_Say = Callable[[re.Match[str], "RecipeRef", Sequence[str]], Problem]
#: What Hydra 1.3 says, and what is said instead; the first that matches.
_SAYINGS: tuple[tuple[str, _Say], ...] = (
    (r"Either remove \+ prefix: '(.+?)'\s+Or add a second \+", _there_already),
    (r"Override (\S+?)=.* config group '[^']+' does not exist", _no_match),
    (r"Could not (?:find|load) '([^']+)'", _missing),
    (r"Could not override '([^']+)'", _no_match),
    (r"You must specify '([^']+)'", _unset),
    (r"In (\S+): Override '([^']+)' is defined before '([^']+)'", _order),
    (r"Duplicate _self_ defined in (\S+)", _two_selves),
    (r"(\S+) appears more than once in the final defaults list", _twice),
    (r"Multiple values for (\S+)\. To override a value use 'override \S+: ([^']*)'", _two_choices),
    (r"Ambiguous value for argument '([^\n]*)'", _ambiguous),
    (r"Sweep parameters '([^\n]*)' requires --multirun", _sweep),
    (r"Could not delete from config\. The value of '([^']+)' is (.*) and not (.*)\.", _other_value),
    (r"Could not delete '([^']+)'\. No match", _not_deleted),
)
