"""Emoji are found whole, named, removed and counted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_clean_text.emoji import Emoji
from lmgraft_clean_text.plugin import EmojiConfig, EmojiTo

DATA = os.environ.get("LMGRAFT_TEST_DATA")


def judged(text: str, **settings: Any) -> Verdict:
    return Emoji(EmojiConfig(**settings)).judge([Document("a", text=text)])[0]


@pytest.mark.parametrize(
    ("text", "wanted", "count"),
    [
        ("so 👍🏽!", "so :thumbs_up_medium_skin_tone:!", 1),
        ("👨‍👩‍👧", ":family_man_woman_girl:", 1),
        ("🇺🇳🇩🇪", ":United_Nations::Germany:", 2),
        ("3️⃣ 3⃣", ":keycap_3: :keycap_3:", 2),
        ("❤️ ☎️", ":red_heart: :telephone:", 2),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", ":England:", 1),
        ("👍👍", ":thumbs_up::thumbs_up:", 2),
        ("🐶\u200d🚀", ":dog_face::rocket:", 2),  # joined by nobody but this test
        ("🇺🇳🇺", ":United_Nations:🇺", 1),  # half a flag is none
    ],
)
def test_sequences_are_whole(text: str, wanted: str, count: int) -> None:
    assert judged(text) == Verdict(text=wanted, reason="named", counts={"emoji": count})
    assert judged(text).counts == {"emoji": count}


@pytest.mark.parametrize("text", ["plain :-) 3 # *", "© 2020 ™ ↔ ☎ ❤", "👍︎", "我喜欢吃苹果", "🇺"])
def test_what_is_no_emoji_stays(text: str) -> None:
    assert judged(text) is KEEP


def test_settings() -> None:
    text = "ja 👍 ❤️ ©"
    assert judged(text, to=EmojiTo.remove).text == "ja   ©"
    assert judged(text, to=EmojiTo.keep) == Verdict(counts={"emoji": 2})
    assert judged(text, language="de", delimiters=["<", ">"]).text == "ja <daumen_hoch> <rotes_herz> ©"
    assert judged(text, text_style=True).text == "ja :thumbs_up: :red_heart: :copyright:"
    assert len(list(EmojiConfig(language="xx", delimiters=[":"]).check())) == 2


def test_a_chain_without_end_takes_time_by_its_length() -> None:
    chain = "\u200d".join(["😀"] * 50_000)
    started = time.process_time()
    assert judged(chain).counts == {"emoji": 50_000}
    assert time.process_time() - started < 5


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_every_emoji_of_unicode_is_named() -> None:
    named = total = 0
    for line in (Path(DATA or "") / "misc" / "emoji-test.txt").read_text(encoding="utf-8").splitlines():
        codes, _, rest = line.partition(";")
        if not rest or line.startswith("#") or rest.split("#")[0].strip() not in ("fully-qualified", "component"):
            continue
        sequence = "".join(chr(int(code, 16)) for code in codes.split())
        name = judged(f"{sequence}").text or ""
        total += 1
        # Between text and beside another one: nothing of it is left, and nothing else is taken.
        around = judged(f"a {sequence}b{sequence}{sequence}1")
        named += around == Verdict(text=f"a {name}b{name}{name}1", reason="named", counts={"emoji": 3})
        assert name.startswith(":")
        assert name.count(":") == 2
        assert sequence not in name
    print(f"{named} of {total} emoji")
    assert named == total > 3600
