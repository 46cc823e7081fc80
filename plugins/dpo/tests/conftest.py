"""Fixtures shared with the other objectives of rows, the warm command line, and real data."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from row_fixtures import encoded, engine, llama, one_thread, saved, vocabulary
from shared_fixtures import cli, data

__all__ = ["cli", "data", "encoded", "engine", "llama", "one_thread", "saved", "vocabulary"]
