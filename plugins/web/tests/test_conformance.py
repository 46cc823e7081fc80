"""The web's parts keep their contracts."""

from __future__ import annotations

from lmgraft_web.conformance import (
    TestCommonCrawl,
    TestHtmlPages,
    TestHtmlText,
    TestHtmlTextFast,
    TestUrl,
    TestWet,
)

__all__ = ["TestCommonCrawl", "TestHtmlPages", "TestHtmlText", "TestHtmlTextFast", "TestUrl", "TestWet"]
