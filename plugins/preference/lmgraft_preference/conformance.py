"""Holds ``preference`` to the evaluators' contract."""

from __future__ import annotations

from collections.abc import Mapping

from lmgraft.testing import EvaluatorSuite

__all__ = ["TestPreference"]


class TestPreference(EvaluatorSuite):
    component = "preference"

    def known(self, vocab_size: int) -> Mapping[str, float]:
        """Where every token costs the same the shorter answer is the likelier one, and the mean is a tie."""
        sizes = [(len((d.chosen or "").encode()), len((d.rejected or "").encode())) for d in self.documents()]
        won = sum((chosen < rejected) + (chosen == rejected) / 2 for chosen, rejected in sizes)
        return {"preference_accuracy": won / len(sizes), "preference_accuracy_per_token": 0.5}
