"""Filter ``pii``: replaces what leads to a person: e-mail and IP addresses, telephone numbers, accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_pii.addresses import ipv4, ipv6
from lmgraft_pii.banking import cards, ibans
from lmgraft_pii.emails import emails
from lmgraft_pii.phones import Phones
from lmgraft_pii.plugin import KINDS, PiiConfig

__all__ = ["Pii"]

Finder = Callable[[str], Iterator[tuple[int, int]]]


class Pii:
    """Row-wise.

    As FineWeb does (Penedo et al. 2024, arXiv:2406.17557: e-mail addresses and public IP addresses, by regular
    expressions, replaced by addresses that lead to nobody); telephone numbers besides, and on demand payment
    cards and IBANs. The rules of each kind are in its module. Their words and patterns are written for this filter;
    what is replaced by what differs from FineWeb: addresses that are reserved for documentation.

    Not implemented: names, postal addresses, identity numbers, user names, keys and passwords (which BigCode's model
    for code finds: Ben Allal et al. 2023, arXiv:2301.03988), addresses in disguise, digits other than 0 to 9.

    A text in which something was replaced has the reason ``replaced``. Counts: each kind, once for each that was found.
    What already is the replacement counts as nothing, so that a second pass finds nothing. There are no notes: they
    would show what is to be hidden.
    """

    def __init__(self, config: PiiConfig) -> None:
        self.config = config
        public, phones = config.public_ips_only, Phones(config.phone_regions)
        known: dict[str, Finder] = {
            "email": emails,
            "iban": ibans,
            "credit_card": cards,
            "ipv6": lambda text: ipv6(text, public),
            "ipv4": lambda text: ipv4(text, public),
            "phone": phones.find,
        }
        #: Where two kinds meet, the first stays: the one whose rule is harder to meet by chance.
        self._finders = [(kind, known[kind], config.replacement(kind)) for kind in known if kind in config.kinds]
        assert known.keys() == KINDS.keys()

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [KEEP if document.text is None else self._judge(document.text) for document in batch]

    def _judge(self, text: str) -> Verdict:
        found = self.find(text)
        if not found:
            return KEEP
        counts = dict(Counter(kind for _, _, kind in found))
        if not self.config.replace:
            return Verdict(counts=counts)
        pieces, last = [], 0
        for start, end, kind in found:
            pieces += [text[last:start], self.config.replacement(kind)]
            last = end
        return Verdict(text="".join(pieces) + text[last:], reason="replaced", counts=counts)

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, kind) of everything found, ascending and disjoint."""
        found: list[tuple[int, int, str]] = []
        for kind, finder, replacement in self._finders:
            new = [(*span, kind) for span in finder(text) if text[slice(*span)] != replacement]
            found = _joined(found, new) if found else new
        return found


def _joined(found: list[tuple[int, int, str]], new: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Both, ascending; of the new ones those that touch none of the old."""
    result = list(found)
    place = 0
    for span in new:
        while place < len(found) and found[place][1] <= span[0]:
            place += 1
        if place == len(found) or found[place][0] >= span[1]:
            result.append(span)
    return sorted(result)
