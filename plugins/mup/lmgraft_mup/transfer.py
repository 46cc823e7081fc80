"""Draws the sweep of the recipe ``mup_transfer``: held-out bits per byte over the learning rate, a line for each width,
the standard start beside muP.

``python -m lmgraft_mup.transfer RUNS OUT.svg`` takes the folder of the sweep (several, where it ran in parts) and says
by how many steps of the grid the best learning rate moves from the narrowest model to the widest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lmgraft.errors import Problem, UserError

from lmgraft_mup import drawing

__all__ = ["Scores", "best", "plots", "read", "steps"]

#: Initializer -> width -> learning rate -> bits per byte.
Scores = Mapping[str, Mapping[int, Mapping[float, float]]]

TITLES = {"normal": "standard", "mup": "muP"}
STAGE, SCORE = "pretrain", "bits_per_byte"


def read(folders: Iterable[Path]) -> Scores:
    """The scores of all finished jobs below these folders.

    :raises UserError: there are none.
    """
    folders = list(folders)
    found: dict[str, dict[int, dict[float, float]]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("run.json")):
            data = json.loads(file.read_text(encoding="utf-8"))
            scores = [row["value"] for row in data["scores"] if (row["stage"], row["name"]) == (STAGE, SCORE)]
            names = [one["name"] for one in data["components"] if (one["stage"], one["seam"]) == (STAGE, "initializer")]
            if scores and names:
                settings = data["recipe"][STAGE]
                widths = found.setdefault(names[0], {}).setdefault(int(settings["architecture"]["hidden"]), {})
                widths[float(settings["optimizer"]["lr"])] = float(scores[0])
    if not found:
        cause = f"no run.json below it holds {SCORE} of a stage {STAGE}"
        remedy = "lmgraft run mup_transfer --multirun run.dir=FOLDER"
        raise UserError(Problem(f"{', '.join(map(str, folders))}: there is no sweep to draw", cause, remedy))
    return found


def best(scores: Mapping[int, Mapping[float, float]]) -> dict[int, float]:
    """Width -> the learning rate with the lowest score."""
    return {width: min(rates, key=lambda rate: rates[rate]) for width, rates in sorted(scores.items())}


def steps(scores: Mapping[int, Mapping[float, float]]) -> int:
    """By how many steps of the grid the best learning rate of the widest model is above that of the narrowest."""
    found = best(scores)
    grid = sorted({rate for rates in scores.values() for rate in rates})
    return grid.index(found[max(found)]) - grid.index(found[min(found)])


def plots(scores: Scores) -> list[drawing.Plot]:
    """One for each initializer, the standard one first."""
    names = [name for name in TITLES if name in scores]
    return [
        drawing.Plot(
            TITLES.get(name, name),
            "learning rate",
            "bits per byte, held out",
            [(f"width {width}", sorted(rates.items())) for width, rates in sorted(scores[name].items())],
            best=True,
        )
        for name in [*names, *sorted(scores.keys() - TITLES.keys())]
    ]


def main() -> int:
    """Draws the sweep and prints its table."""
    parser = argparse.ArgumentParser(
        prog="python -m lmgraft_mup.transfer", description="Draws a sweep of mup_transfer."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS")
    parser.add_argument("out", type=Path, metavar="OUT.svg")
    given = parser.parse_args()
    try:
        scores = read(given.runs)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, widths in scores.items():
        grid = sorted({rate for rates in widths.values() for rate in rates})
        print(f"\n| {TITLES.get(name, name)} |" + "".join(f" {rate:g} |" for rate in grid) + " best |")
        print("|---" * (len(grid) + 2) + "|")
        for width, rates in sorted(widths.items()):
            cells = "".join(f" {rates[rate]:.3f} |" if rate in rates else " |" for rate in grid)
            print(f"| {width} |{cells} {best(widths)[width]:g} |")
        print(f"\nfrom width {min(widths)} to {max(widths)} the best learning rate moves by {steps(widths):+d} steps")
    given.out.write_text(drawing.draw(plots(scores), shared=True), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
