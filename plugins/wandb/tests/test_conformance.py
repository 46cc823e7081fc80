"""The door's own checks of ``wandb``."""

from __future__ import annotations

from lmgraft_wandb.conformance import TestWandb

__all__ = ["TestWandb"]
