"""Keeps large temporaries of a training step mapped, where the C library is glibc.

glibc gives every large block back to the system when it is freed and maps it anew at the next step, page fault by page
fault: on a small model that is a fifth of a bfloat16 step. Blocks come from the heap instead, and the heap is not
trimmed. The price is that the process keeps its peak.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

__all__ = ["keep_mapped"]

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@lru_cache(maxsize=1)
def keep_mapped() -> bool:
    """True where the allocator took the settings; elsewhere nothing happens."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
