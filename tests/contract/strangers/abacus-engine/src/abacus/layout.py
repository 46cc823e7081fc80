"""The part: where an engine is made, which is right here."""

from __future__ import annotations

from collections.abc import Callable

from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training.settings import repeatable

from abacus.engine import AbacusEngine
from abacus.registration import AbacusConfig


class AbacusLayout:
    """Implements ``lmgraft.seams.parallelism.Parallelism``."""

    def __init__(self, config: AbacusConfig) -> None:
        self._config = config

    def launch(self, work: Callable[[Callable[[EnginePlan], Engine]], None]) -> None:
        with repeatable(self._config.threads):
            work(self._make_engine)

    def _make_engine(self, plan: EnginePlan) -> Engine:
        return AbacusEngine(plan, self._config.beads.value)
