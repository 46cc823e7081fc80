"""Fixtures shared with the other objectives of rows."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from row_fixtures import encoded, engine, llama, one_thread, saved, vocabulary

__all__ = ["encoded", "engine", "llama", "one_thread", "saved", "vocabulary"]
