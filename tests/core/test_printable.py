"""What acts on a terminal is spelt out, and nothing else is touched."""

from __future__ import annotations

import pytest
from lmgraft.console import Console
from lmgraft.errors import Problem
from lmgraft.printable import printable

ACTING = ("\x1b", "\x07", "\r", "\x7f", "\x9b", "\u202e", "\u2067", "\u2028", "\udcff")


@pytest.mark.parametrize("character", ACTING)
def test_what_acts_is_spelt_out(character: str) -> None:
    assert printable(f"a{character}b") == f"a<U+{ord(character):04X}>b"


def test_text_stays_as_it_is() -> None:
    text = "naïve 中文 👩\u200d👧 می\u200cخواهم a\u0301\tb\nc"
    assert printable(text) == text


def test_a_message_and_a_table_bring_nothing_that_acts(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b[31m\x9b2J\u202e"
    assert printable(str(Problem(evil, evil, evil))) == str(Problem(evil, evil, evil))
    Console().table(evil, ("", evil), [(evil, "1")])
    shown = capsys.readouterr().out
    assert printable(shown) == shown
    assert shown.count("<U+001B>") == 3
