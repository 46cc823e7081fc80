"""Misspelt words are reported, and corrected only when told and only where one word may be meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_clean_text.plugin import SpellingConfig
from lmgraft_clean_text.spelling import Spelling

DATA = os.environ.get("LMGRAFT_TEST_DATA")


def judged(text: str, **settings: Any) -> Verdict:
    return Spelling(SpellingConfig(**settings)).judge([Document("a", text=text)])[0]


def misspelt(text: str, **settings: Any) -> int:
    return judged(text, **settings).counts.get("misspelt", 0)


def test_it_reports_and_changes_nothing() -> None:
    verdict = judged("They seperate what they recieve, and tomorow they recieve more.")
    assert verdict.text is None
    assert verdict.counts == {"words": 9, "unknown": 4, "misspelt": 4, "documents": 1}
    assert verdict.note == "seperate -> separate, recieve -> receive?, tomorow -> tomorrow"
    assert not judged("Nothing is wrong here.").note


def test_it_corrects_what_is_clear_when_told() -> None:
    text = "They seperate (`seperate`) what they recieve: tomorow."
    assert judged(text, correct=True).text == "They separate (`seperate`) what they recieve: tomorrow."
    verdict = judged(text, correct=True, dominance=20.0)
    assert verdict.text == "They separate (`seperate`) what they receive: tomorrow."
    assert (verdict.reason, verdict.counts["corrected"]) == ("corrected", 3)


@pytest.mark.parametrize(
    "text",
    [
        "Seperate SEPERATE SePerate",
        "see http://example.org/seperate?seperate=seperate and me@seperate.org or ./seperate/x",
        "call seperate() and seperate_all, x.seperate, $seperate, --seperate, \\seperate{} and seperate2",
        "    seperate = 1\n\tseperate\n",
        "```\nseperate\n```\n`seperate`",
        "seperate seperate seperate",
        "the favorite color of the theater's neighbors, traveled and analyzed; behavior centers",
        "he goeth and unloadable overheated kernels don't, don’t, the kernel’s",
        "teh adn",
        "das Haus steht immer noch dort hinten neben einem grossen schwarzen Wald und niemand weiss warum "
        "eigentlich irgendwer dorthin laufen sollte, wenn es doch dunkel ist",
    ],
)
def test_what_is_not_looked_at_or_no_slip(text: str) -> None:
    assert misspelt(text) == 0
    assert judged(text, correct=True).text is None


def test_another_language_is_counted_and_let_be() -> None:
    text = "niemand weiss warum eigentlich irgendwer jenseits unseres grossen waldes wohnen sollte " * 2
    assert judged(text).counts["not_english"] == 1


def test_own_lists(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("seperate\n", encoding="utf-8")
    (tmp_path / "wrong.txt").write_text("teh the\n$receive\nrecieve\nfo->of, for\n", encoding="utf-8")
    (tmp_path / "mine.txt").write_text("a\nwörld\nfolk\nthe\n", encoding="utf-8")
    lists = {"words": str(tmp_path / "words.txt"), "misspellings": str(tmp_path / "wrong.txt")}
    verdict = judged("teh seperate fo recieve", correct=True, **lists)
    assert (verdict.text, verdict.note) == ("the seperate fo receive", "teh -> the, fo -> of?, recieve -> receive")
    assert judged("the fulk", dictionary=str(tmp_path / "mine.txt"), min_letters=4).note == "fulk -> folk"


def test_lists_are_kept_with_the_stage(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("teh the\n", encoding="utf-8")
    config = SpellingConfig(misspellings=str(wrong))
    assert Spelling(config).inputs() == {"misspellings": str(wrong)}
    (tmp_path / "fit").mkdir()
    first, second = Spelling(config), Spelling(config)
    first.fit({}, tmp_path / "fit")
    wrong.unlink()
    second.fit({}, tmp_path / "fit")
    for part in (first, second):
        assert part.judge([Document("a", text="teh end")])[0].note == "teh -> the"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no misspellings"),
        ("teh\n", "line 1: 'teh' has no correction"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "No such"),
    ],
)
def test_bad_lists_stop_in_three_lines(tmp_path: Path, content: str | bytes | None, told: str) -> None:
    path = tmp_path / "wrong.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told) as caught:
        Spelling(SpellingConfig(misspellings=str(path))).fit({}, tmp_path)
    assert len(str(caught.value).splitlines()) == 3


def test_chats_are_let_be_and_settings_checked() -> None:
    chat = Document("c", messages=[{"role": "user", "content": "seperate"}])
    assert Spelling(SpellingConfig()).judge([chat]) == [KEEP]
    config = SpellingConfig(min_letters=0, min_frequency=-1, shown=-1, dominance=0.5, max_unknown=0)
    assert len(list(config.check())) == 5


def pairs_of(name: str) -> list[tuple[str, str]]:
    """Misspellings whose word the dictionary knows, and which are no words themselves."""
    known = Spelling(SpellingConfig())
    known.judge([Document("a", text="a b")])
    assert known._lexicon is not None
    words, pairs, right = known._lexicon.known, [], ""
    for line in (Path(DATA or "") / "misc" / name).read_text(encoding="latin-1").split():
        if line.startswith("$"):
            right = line[1:]
        elif line.isascii() and line.isalpha() and line not in words and right in words:
            pairs.append((line.lower(), right))
    return pairs


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
@pytest.mark.parametrize(("name", "detected", "precise"), [("wikipedia", 0.72, 0.94), ("birkbeck", 0.36, 0.70)])
def test_real_misspellings(name: str, detected: float, precise: float) -> None:
    pairs = pairs_of(f"{name}_missp.dat")
    pairs = pairs[:: 1 + len(pairs) // 8000]  # of the longer list some, spread evenly
    part = Spelling(SpellingConfig(correct=True))
    verdicts = part.judge([Document(str(n), text=wrong) for n, (wrong, _) in enumerate(pairs)])
    found = sum(bool(verdict.counts.get("misspelt")) for verdict in verdicts)
    texts = [(verdict.text, right) for verdict, (_, right) in zip(verdicts, pairs, strict=True) if verdict.text]
    well = sum(text == right for text, right in texts)
    print(f"{name}: {len(pairs)} misspellings, {found} found, {len(texts)} corrected, {well} rightly")
    assert found / len(pairs) >= detected
    assert well / len(texts) >= precise
