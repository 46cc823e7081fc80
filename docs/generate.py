"""Writes reference.md, parts.md, testing.md and models.md in docs from what core and the plugins say of themselves.

    python docs/generate.py            writes the pages
    python docs/generate.py --check    writes nothing; exit code 2 where a page is stale

Needs lmgraft installed from this checkout (``pip install -e .``), and none of its extras.
"""

from __future__ import annotations

import difflib
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generator.models import models
from generator.parts import parts
from generator.reference import reference
from generator.testing import testing

DOCS = Path(__file__).parent
PAGES = {
    DOCS / "reference.md": reference,
    DOCS / "parts.md": parts,
    DOCS / "testing.md": testing,
    DOCS / "models.md": models,
}


def stale() -> list[str]:
    """The first lines in which each page differs from what it should be; empty where none does."""
    found: list[str] = []
    for path, make in PAGES.items():
        held = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = difflib.unified_diff(
            held.splitlines(), make().splitlines(), path.name, "as generated", lineterm="", n=0
        )
        found += islice(lines, 12)
    return found


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    if not arguments:
        for path, make in PAGES.items():
            path.write_text(make(), encoding="utf-8")
        return 0
    found = stale()
    if found:
        print("\n".join([*found, "the pages are stale: python docs/generate.py"]), file=sys.stderr)
    return 2 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
