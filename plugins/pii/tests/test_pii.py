"""What is found is replaced and counted, once; nothing takes long, whatever the text."""

from __future__ import annotations

import time

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, RowFilter, Verdict
from lmgraft_pii.pii import Pii
from lmgraft_pii.plugin import KINDS, PiiConfig, lmgraft_filter


def judged(text: str, **settings: object) -> Verdict:
    (verdict,) = Pii(PiiConfig(**settings)).judge([Document("a", text=text)])  # type: ignore[arg-type]
    return verdict


TEXT = "Mail joe@firma.de or JOE@firma.de from 81.2.69.142 (2a00:1450:4001:81b::200e), phone +49 30 1234567."


def test_what_is_found_is_replaced_and_counted() -> None:
    verdict = judged(TEXT)
    assert verdict.text == (
        "Mail email@example.com or email@example.com from 192.0.2.1 (2001:db8::1), phone +1 202-555-0100."
    )
    assert verdict.counts == {"email": 2, "ipv4": 1, "ipv6": 1, "phone": 1}
    assert (verdict.keep, verdict.reason, verdict.cuts, verdict.note) == (True, "replaced", (), "")


def test_nothing_found_and_no_text_are_the_shared_verdict() -> None:
    assert judged("Nothing to see at 10:30 on 2020-01-02, version 1.2.3.4.") is KEEP
    assert judged("") is KEEP
    chat = Document("c", messages=[{"role": "user", "content": TEXT}])
    assert Pii(PiiConfig()).judge([chat]) == [KEEP]
    assert "columns:text" in PiiConfig().needs(), "which tells the user of a chat that nothing would be replaced"


def test_a_second_pass_finds_nothing() -> None:
    every = "card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00"
    first = judged(f"{TEXT} {every}", kinds=list(KINDS))
    assert first.counts == {"email": 2, "ipv4": 1, "ipv6": 1, "phone": 1, "credit_card": 1, "iban": 1}
    assert judged(first.text or "", kinds=list(KINDS)) is KEEP
    mine = {"email": "me@firma.de", "ipv4": "8.8.4.4", "ipv6": "2a00::1", "phone": "(202) 456-1111"}
    again = judged(TEXT, replacements=mine).text or ""
    assert "me@firma.de or me@firma.de from 8.8.4.4 (2a00::1), phone (202) 456-1111" in again
    assert judged(again, replacements=mine) is KEEP


def test_counting_only() -> None:
    verdict = judged(TEXT, replace=False)
    assert (verdict.text, verdict.reason, verdict.keep) == (None, "", True)
    assert verdict.counts["email"] == 2


def test_kinds_and_replacements_are_chosen() -> None:
    assert judged(TEXT, kinds=["ipv4"]).counts == {"ipv4": 1}
    assert judged("To a@b.io, c@d.io!", replacements={"email": "<EMAIL>"}).text == "To <EMAIL>, <EMAIL>!"
    assert judged("To a@b.io!", replacements={"email": ""}).text == "To !"


def test_private_addresses_stay_unless_asked_for() -> None:
    text = "Hosts: 10.0.0.1 fe80::1 192.168.1.1 fd00::17 ::1"
    assert judged(text) is KEEP
    assert judged(text, public_ips_only=False).counts == {"ipv4": 2, "ipv6": 2}


def test_regions_limit_national_formats_only() -> None:
    text = "(202) 456-1111 and 01 23 45 67 89 and +44 20 7946 0958 and fax 030 1234567"
    assert judged(text).counts == {"phone": 4}
    assert judged(text, phone_regions=["fr"]).counts == {"phone": 3}
    assert judged(text, phone_regions=[]).counts == {"phone": 2}


def test_many_numbers_in_a_row() -> None:
    assert judged("202-456-1111 202-456-1112 / +1 202 456 1113 +49 30 1234567").counts == {"phone": 4}
    assert judged("\n".join(["01 23 45 67 89"] * 50)).counts == {"phone": 50}


def test_where_kinds_meet_one_stays() -> None:
    assert judged("5105105105105100@mail.com", kinds=list(KINDS)).counts == {"email": 1}
    assert judged("GB29 NWBK 6016 1331 9268 19", kinds=list(KINDS)).counts == {"iban": 1}


#: A quarter of a megabyte: prose takes a hundredth of a second, these up to one; what is quadratic takes minutes.
SIZE = 250_000
ADVERSARIAL = {
    "at": "@",
    "at word": "a@",
    "local": "a",
    "dots": "a.",
    "at dots": "a@a.",
    "labels": "-a.@",
    "long domain": "x@" + "a." * 40,
    "hyphens": "a@a" + "-" * 70,
    "digits": "1",
    "digit groups": "1 ",
    "octets": "1.",
    "octets of three": "123.",
    "plus": "+",
    "plus digits": "+1",
    "plus long": "+1 202 456 111",
    "parens": "(",
    "paren space": "( ",
    "paren digits": "(0",
    "colons": ":",
    "hex": "2000:",
    "hex long": "2345:6789:",
    "cards": "4111 ",
    "card digits": "4111-1111-1111-",
    "iban": "DE89 3704 0044 ",
    "caps": "AB12",
    "numbers": "202-456-1111 ",
    "international": "+49 30 1234567 ",
    "words": "phone ",
    "word dots": "tel. .... ",
    "word at": "call me at ",
    "labels spaced": "phone number no. is ",
    "zeros": "0",
    "zero zero": "00 1",
    "dashes": "0-",
    "slashes": "0/",
    "url": "//a",
    "url at": "//a@",
    "spaces": " ",
    "han": "电话",
    "surrogate": "\ud800",
    "mixed": "+(0 .-/)1",
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_time_is_linear(name: str) -> None:
    piece = ADVERSARIAL[name]
    part, text = Pii(PiiConfig(kinds=list(KINDS), public_ips_only=False)), piece * (SIZE // len(piece))
    began = time.process_time()
    part.judge([Document("a", text=text)])
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 0),
        ({"kinds": []}, 1),
        ({"kinds": ["emial"], "replacements": {"name": ""}, "phone_regions": ["uk"]}, 3),
    ],
)
def test_settings_are_checked(settings: dict[str, object], count: int) -> None:
    assert len(list(PiiConfig(**settings).check())) == count  # type: ignore[arg-type]


def test_the_hook_offers_a_row_filter() -> None:
    (component,) = lmgraft_filter()
    assert component.name == "pii"
    assert isinstance(Pii(PiiConfig()), RowFilter)
