"""The seam's own checks of ``files``."""

from __future__ import annotations

from lmgraft_files.conformance import TestFiles, TestFilesOfCsv, TestFilesOfParquet, TestFilesOfText

__all__ = ["TestFiles", "TestFilesOfCsv", "TestFilesOfParquet", "TestFilesOfText"]
