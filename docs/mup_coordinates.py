"""Draws the coordinate check of docs/mup.md and prints its slopes: ``python docs/mup_coordinates.py OUT.svg``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from lmgraft.registry import build, registry
from lmgraft_mup import drawing
from lmgraft_mup.coordinates import slopes, tables

WIDTHS = (64, 128, 256, 512, 1024)
HEAD_DIM = 32
BATCH, LENGTH = 8, 64
LR = 4e-3
STEPS = 4
#: Real text that every Python has.
TEXT = Path(argparse.__file__)


def part(seam: str, name: str, **settings: Any) -> Any:
    component = registry().get(seam, name).component
    return build(component, component.config(part=name, **settings))


def parts(width: int, initializer: str) -> tuple[Any, Any, Any]:
    heads = width // HEAD_DIM
    sizes = {"layers": 2, "hidden": width, "heads": heads, "kv_heads": heads, "mlp": 2 * width, "context": LENGTH}
    llama = part("architecture", "llama", **sizes)
    return llama, part("initializer", initializer), part("optimizer", "adamw", lr=LR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.svg")
    out = parser.parse_args().out
    ids = bytearray(TEXT.read_bytes()[: BATCH * LENGTH])
    tokens = torch.frombuffer(ids, dtype=torch.uint8).long().view(BATCH, LENGTH)
    plots = []
    for name, title in (("normal", "standard"), ("mup", "muP")):
        found = tables(lambda width, name=name: parts(width, name), WIDTHS, tokens, steps=STEPS)
        for step, table in enumerate(found):
            told = slopes(table, WIDTHS)
            print(f"{title}, step {step}: slopes", ", ".join(f"{what} {value:+.2f}" for what, value in told.items()))
        lines = [(what, list(zip(WIDTHS, values, strict=True))) for what, values in found[-1].items()]
        plots.append(drawing.Plot(f"{title}, after {STEPS} steps", "width", "mean absolute activation", lines))
    out.write_text(drawing.draw(plots, shared=True), encoding="utf-8")


if __name__ == "__main__":
    main()
