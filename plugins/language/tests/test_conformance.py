"""``language`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft_language.conformance import TestLanguage, TestLanguageReports

__all__ = ["TestLanguage", "TestLanguageReports"]
