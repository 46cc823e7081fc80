"""``lmgraft recipes``: what is installed, read from the comment header of each file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lmgraft import paths

__all__ = ["header", "recipes"]

FIELDS = ("purpose", "hardware", "minutes", "expect")


def header(file: Path) -> dict[str, str]:
    """The ``# Purpose: ...`` lines at the head of a recipe; nothing is parsed as YAML."""
    found: dict[str, str] = {}
    last = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        name, colon, text = line.lstrip("# ").partition(":")
        if colon and name.lower() in FIELDS:
            last = name.lower()
            found[last] = text.strip()
        elif last:
            found[last] += " " + line.lstrip("# ").strip()
    return found


@click.command(epilog="\b\nExamples:\n  lmgraft recipes\n  lmgraft recipes --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recipes(as_json: bool) -> None:
    """Lists the installed recipes: purpose, hardware, minutes, expected metric."""
    found = [
        {"name": name, "distribution": distribution, **header(file)}
        for name, (file, distribution) in sorted(paths.recipe_files().items())
    ]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from lmgraft.console import Console

    rows = [[item["name"], *(item.get(field, "") for field in FIELDS), item["distribution"]] for item in found]
    Console().table("Recipes (lmgraft run NAME)", ("recipe", *FIELDS, "from"), rows)
