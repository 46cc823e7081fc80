"""Small distributions, each as a real author could have written it by mistake, and as many without."""

from __future__ import annotations

from faults import adapting, data, learning, models, packaging, starting
from faults.fault import Fault

__all__ = ["ALL", "FAULTS"]

_FAULTS: list[Fault] = [
    *packaging.FAULTS,
    *data.FAULTS,
    *models.FAULTS,
    *learning.FAULTS,
    *starting.FAULTS,
    *adapting.FAULTS,
]

#: Distribution -> what is wrong with it.
FAULTS = {fault.name: fault for fault in _FAULTS}
assert len(FAULTS) == 25

ALL = [one for fault in _FAULTS for one in (fault.planted(), fault.sound())]
