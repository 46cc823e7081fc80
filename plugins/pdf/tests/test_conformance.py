"""``pdf`` keeps the contract of data sources."""

from __future__ import annotations

from lmgraft_pdf.conformance import TestPdf, TestPdfOfPages

__all__ = ["TestPdf", "TestPdfOfPages"]
