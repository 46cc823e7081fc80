"""The light half of ``pii``: its settings and where its class lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["KINDS", "REGIONS", "PiiConfig", "lmgraft_filter"]

#: What is looked for -> what stands in its place by default: addresses and numbers that are reserved for examples
#: (RFC 2606, RFC 5737, RFC 3849; 555-0100 to 555-0199 in North America) or can never be valid.
KINDS = {
    "email": "email@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "phone": "+1 202-555-0100",
    "credit_card": "0000 0000 0000 0000",
    "iban": "XX00 0000 0000 0000 0000",
}
#: Countries whose national way of writing telephone numbers is known.
REGIONS = ("au", "br", "cn", "de", "fr", "gb", "jp", "ru", "us")


@dataclass
class PiiConfig(ComponentConfig):
    """What is looked for, and what stands in its place."""

    kinds: list[str] = field(default_factory=lambda: ["email", "ipv4", "ipv6", "phone"])
    """Of ``email``, ``ipv4``, ``ipv6``, ``phone``, ``credit_card``, ``iban``."""
    replace: bool = True
    """False counts what is found and leaves the text alone."""
    replacements: dict[str, str] = field(default_factory=dict)
    """Kind -> the text that stands in its place, say ``{email: "<EMAIL>"}``; others keep their default."""
    public_ips_only: bool = True
    """Private, local and reserved addresses stay: they lead to nobody."""
    phone_regions: list[str] = field(default_factory=lambda: list(REGIONS))
    """Countries whose national formats count; ``+49 ...`` and numbers after a word such as ``phone`` always do."""

    def needs(self) -> frozenset[str]:
        """Only ``text`` can be rewritten; that a chat keeps its addresses should not go unsaid."""
        return frozenset({"columns:text"})

    def replacement(self, kind: str) -> str:
        """What stands in the place of a ``kind``."""
        return self.replacements.get(kind, KINDS[kind])

    def check(self) -> Iterator[str]:
        if not self.kinds:
            yield f"kinds is empty: nothing is looked for; choose of {', '.join(KINDS)}"
        for name, values, known in (
            ("kinds", self.kinds, KINDS),
            ("replacements", self.replacements, KINDS),
            ("phone_regions", self.phone_regions, REGIONS),
        ):
            for value in values:
                if value not in known:
                    yield f"{name} has {value!r}; known are {', '.join(known)}"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="pii",
            target="lmgraft_pii.pii:Pii",
            config=PiiConfig,
            summary="Replaces e-mail addresses, IP addresses, phone numbers and accounts",
        )
    ]
