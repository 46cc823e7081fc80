"""Holds ``python_docs`` to the data sources' contract, on a part of the standard library."""

from __future__ import annotations

from lmgraft.testing import DataSourceSuite

__all__ = ["TestPythonDocs"]


class TestPythonDocs(DataSourceSuite):
    component = "python_docs"
    most_units = 12
