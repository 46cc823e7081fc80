"""Fifty distributions as an environment may hold them: of every seam, with several parts each, five of them broken.

``bench/startup.py`` measures with the same fifty.
"""

from __future__ import annotations

from pathlib import Path

from lmgraft.version import DOORS, SEAMS
from third_party import PRELUDE, Distribution, component

__all__ = ["BROKEN", "FIFTY", "RAISING", "RECIPE", "damage", "expected"]

PLACES = (*SEAMS, *DOORS)
#: Their light modules raise as they are imported, each in a way of its own; from metadata they look like any other.
RAISING = {
    "fifty-7": "raise RuntimeError('no licence server')",
    "fifty-19": "raise SystemExit(3)",
    "fifty-31": "import no_such_module_anywhere",
}
#: Broken in five ways that metadata tells: distribution -> (state, the beginning of the reason).
BROKEN = {
    "fifty-45": ("broken", "its entry_points.txt cannot be read: "),
    "fifty-46": ("broken", "its entry-point group lmgraft.objectives is none of lmgraft "),
    "fifty-47": ("broken", "its entry point names an object, "),
    "fifty-48": ("broken", "its package fifty_gone is not on the import path"),
    "fifty-49": ("incompatible", "it wants lmgraft>=9, and this is lmgraft "),
}
RECIPE = "recipe_of_3"


def _parts(number: int) -> dict[str, dict[str, str]]:
    """One to five seams with one or two parts each, so that all seams and doors are served several times."""
    seams = [PLACES[(number * 4 + step) % len(PLACES)] for step in range(1 + number % 5)]
    module = f"fifty_{number}.plugin"
    return {seam: {f"part_{number}_{letter}": module for letter in "ab"[: 1 + number % 2]} for seam in seams}


#: The packages leave their names too, as the light modules do: looking a submodule up would import its package.
PACKAGE = """\
import os

if "IMPORTED" in os.environ:
    with open(os.environ["IMPORTED"], "a") as file:
        file.write(__name__ + chr(10))
"""
#: What every part is made of.
IMPLEMENTATION = f"""\
{PACKAGE}
from lmgraft.seams.filter import KEEP


class Part:
    def __init__(self, config):
        self.config = config

    def judge(self, batch):
        return [KEEP for _ in batch]
"""


def _source(package: str, parts: dict[str, dict[str, str]], before: str) -> str:
    base = "@dataclass\nclass Kind(StageConfig):\n    artifact = 'nothing'\n"
    hooks = []
    for seam, names in parts.items():
        config = "Kind" if seam == "stage" else "Config"
        listed = ", ".join(component(name, f"{package}.impl:Part", config) for name in names)
        hooks.append(f"@hookimpl\ndef lmgraft_{seam}():\n    return [{listed}]\n")
    # What it does at import comes after the line that tells of the import.
    return "\n\n".join([PRELUDE + before, base, *hooks])


def _distribution(number: int) -> Distribution:
    name, package = f"fifty-{number}", f"fifty_{number}"
    parts = _parts(number)
    files = {f"{package}/__init__.py": PACKAGE, f"{package}/plugin.py": _source(package, parts, RAISING.get(name, ""))}
    files[f"{package}/impl.py"] = IMPLEMENTATION
    requires = [f"lmgraft>={'9' if name == 'fifty-49' else '0.0.1'}", "numpy>=1.26"]
    if number == 3:
        files[f"{package}/recipes/{RECIPE}.yaml"] = _RECIPE
        parts["recipes"] = {package: f"{package}.recipes"}
    if name == "fifty-46":
        parts = {"objectives": {"part_46_a": f"{package}.plugin"}}
    if name == "fifty-47":
        parts = {"filter": {"part_47_a": f"{package}.plugin:parts"}}
    if name == "fifty-48":
        parts = {"filter": {"part_48_a": "fifty_gone.plugin"}}
    return Distribution(name, files, parts, version=f"1.{number}", requires=requires)


#: A recipe that one of them brings: a text through a filter of another.
_RECIPE = """\
# Purpose: one text through a filter of the fifty.
# Hardware: anything.
# Minutes: 1
# Expect: a corpus.
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - filter@corpus.filters: [part_4_a]
  - _self_
stages: [corpus]
corpus:
  workers: 1
  sources:
    files:
      path: text
"""

FIFTY = [_distribution(number) for number in range(50)]


def damage(site: Path) -> None:
    """A disk's fault, which no pip would install."""
    (site / "fifty_45-1.45.dist-info/entry_points.txt").write_text("[lmgraft.filter\npart_45_a = fifty_45.plugin\n")


def expected() -> dict[tuple[str, str, str], str]:
    """(distribution, seam, part) -> the state that the list tells, of all fifty."""
    found: dict[tuple[str, str, str], str] = {}
    for one in FIFTY:
        state = BROKEN.get(one.name, ("unchecked", ""))[0]
        parts = {"": {"": ""}} if one.name == "fifty-45" else one.parts
        found |= {(one.name, seam, part): state for seam, names in parts.items() for part in names if seam != "recipes"}
    return found
