"""The warm command line of core's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from shared_fixtures import cli

__all__ = ["cli"]
