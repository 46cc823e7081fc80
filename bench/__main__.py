"""``python -m bench NAME [--json]``; ``python -m bench all`` writes bench/RESULTS.md."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

NAMES = (
    "startup",
    "merge",
    "filters",
    "html",
    "minhash",
    "web_corpus",
    "classifiers",
    "clean_text",
    "tokenize",
    "generate",
)
RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("-n", "--runs", type=int, default=10, help="counted runs of each side (default 10)")
    options = parser.parse_args()
    pages = []
    for name in NAMES if options.name == "all" else [options.name]:
        table, result = import_module(f"bench.{name}").run(options.runs)
        print(json.dumps(result, indent=2) if options.json else table)
        pages.append(f"## {name}\n\n{table}\n")
    if options.name == "all":
        RESULTS.write_text("# Results\n\n`python -m bench all` wrote this.\n\n" + "\n".join(pages), encoding="utf-8")


main()
