"""The store: an action key -> the digest of what came out, as a build cache keeps it (Bazel is the model).

Two processes may build one key, any of them may be killed at any instant, and the folder may lie on a shared
filesystem: only exclusive creation and atomic renames are relied on, never locks.
"""

from __future__ import annotations

from lmgraft.store._digest import Manifest, folder_manifest
from lmgraft.store._gc import GcReport
from lmgraft.store._inspect import Entry
from lmgraft.store._job import Job
from lmgraft.store._record import Record
from lmgraft.store._store import Store

__all__ = ["Entry", "GcReport", "Job", "Manifest", "Record", "Store", "folder_manifest"]
