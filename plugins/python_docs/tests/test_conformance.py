"""The seam's own checks of ``python_docs``."""

from __future__ import annotations

from lmgraft_python_docs.conformance import TestPythonDocs

__all__ = ["TestPythonDocs"]
