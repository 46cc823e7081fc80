"""A job for the test of worker processes."""

from __future__ import annotations

import os
import time


def sleep(workshop: object, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
