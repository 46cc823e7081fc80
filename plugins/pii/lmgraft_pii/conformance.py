"""Holds ``pii`` to the filters' contract."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestPii", "TestPiiEveryKind", "TestPiiReports"]

FOUND = (
    "Write to jane.roe+list@mail.example.org or joe@firma.de.",
    "It came from 81.2.69.142 and 2a00:1450:4001:81b::200e.",
    "Call (202) 456-1111 or +44 20 7946 0958, Tel. 01 23 45 67 89.",
    "IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111.",
    "Version 1.2.3.4 of 2020-01-02, order 202-456-1111, ISBN 978-3-16-148410-0: none of these.",
)


class TestPii(FilterSuite):
    """The kit's documents with something of each kind, and what only looks like it."""

    component = "pii"

    def documents(self) -> list[Document]:
        """The kit's, every third with a line of its own."""
        lines = {i: FOUND[i // 3 % len(FOUND)] for i in range(0, self.count, 3)}
        return [
            dataclasses.replace(document, text=f"{document.text} {lines[i]}") if i in lines else document
            for i, document in enumerate(super().documents())
        ]


class TestPiiEveryKind(TestPii):
    """Cards and IBANs too, and replacements of one's own."""

    component = "pii"
    settings: ClassVar[dict[str, Any]] = {
        "kinds": ["email", "ipv4", "ipv6", "phone", "credit_card", "iban"],
        "replacements": {"email": "<EMAIL>", "phone": ""},
        "public_ips_only": False,
    }


class TestPiiReports(TestPii):
    """Nothing is replaced."""

    component = "pii"
    settings: ClassVar[dict[str, Any]] = {"replace": False}
