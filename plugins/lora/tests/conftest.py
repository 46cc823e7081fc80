"""The warm command line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from shared_fixtures import cli

__all__ = ["cli"]
