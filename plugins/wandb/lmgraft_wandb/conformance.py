"""Holds ``wandb`` to the trackers' contract, offline and with a home of its own; where wandb is missing it says so."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, ClassVar
from unittest.mock import patch

from lmgraft.testing import LifecycleSuite, NotApplicable

__all__ = ["TestWandb"]


class TestWandb(LifecycleSuite):
    component = "wandb"
    settings: ClassVar[dict[str, Any]] = {"mode": "offline", "system": False, "patience": 10}
    seconds = 8.0  # it starts a process of its own for every run

    def setup_method(self, method: Any = None) -> None:
        if find_spec("wandb") is None:
            raise NotApplicable("wandb is not installed: pip install 'lmgraft[wandb]'")
        super().setup_method(method)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        home = self.folder / "home"
        home.mkdir()
        self._environment = patch.dict(os.environ, {**kept, "HOME": str(home), "NETRC": str(home / "none")}, clear=True)
        self._environment.start()

    def teardown_method(self, method: Any = None) -> None:
        self._environment.stop()
        super().teardown_method(method)
