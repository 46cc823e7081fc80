"""What filters did, counted: samples of each reason, what was found in documents, the same however parts are cut."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from corpus_context import made, stage  # noqa: E402
from corpus_parts import LinesConfig, Plain, ShortConfig  # noqa: E402
from lmgraft.artifacts import corpus  # noqa: E402
from lmgraft.seams.data_source import Document  # noqa: E402
from lmgraft.seams.filter import Verdict  # noqa: E402
from lmgraft.stages import _corpus_jobs, _corpus_units  # noqa: E402
from lmgraft.stages import corpus as corpus_stage  # noqa: E402
from lmgraft.stages._corpus_tally import Tally  # noqa: E402


def tally(reasons: list[str], start: int = 0) -> Tally:
    found = Tally("f")
    for number, reason in enumerate(reasons, start):
        found.seen += 1
        found.drop(reason, Document(id=str(number), text=f"text {number}"))
        found.remark(Verdict(keep=False, reason=reason, counts={reason: 2}, note=f"note {number}"), str(number))
    return found


@given(st.lists(st.sampled_from([chr(97 + n) for n in range(20)]), max_size=80), st.integers(0, 80))
def test_three_of_each_of_the_first_twelve_reasons_wherever_the_parts_are_cut(reasons: list[str], at: int) -> None:
    whole = tally(reasons)
    cut = tally(reasons[:at])
    cut.add(tally(reasons[at:], at))
    assert cut.as_json() == whole.as_json()
    first = list(dict.fromkeys(reasons))[:12]
    expected = {reason: [str(n) for n, other in enumerate(reasons) if other == reason][:3] for reason in first}
    shown: dict[str, list[str]] = {}
    for row in whole.sample:
        shown.setdefault(row["reason"], []).append(row["id"])
    assert shown == expected
    assert whole.counts == Counter({reason: 2 * number for reason, number in Counter(reasons).items()})
    assert [row["note"] for row in whole.noted] == [f"note {number}" for number in range(len(reasons))][:5]
    assert Tally.from_json(json.loads(json.dumps(whole.as_json()))) == whole


def test_a_document_that_no_sample_takes_is_never_asked_for() -> None:
    found = tally(["a"] * 3)
    found.drop("a", lambda: pytest.fail("asked for"))
    assert found.dropped == {"a": 4}


def test_a_drop_without_a_reason_has_one() -> None:
    assert tally([""]).dropped == {"dropped": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = random.Random(5)
    root = tmp_path / "text"
    root.mkdir()
    for number in range(6):
        words = [" ".join(chance.choices(["OK", "#", "7", "2", "word"], k=chance.randrange(1, 5))) for _ in range(60)]
        (root / f"{number}.txt").write_text("\n".join(words))
    return root


@pytest.mark.parametrize("workers", [1, 2])
def test_the_funnel_tells_what_filters_found(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 600)
    monkeypatch.setattr(_corpus_jobs, "BATCH_DOCUMENTS", 16)
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)
    filters: dict[str, Any] = {
        "finds": ShortConfig(part="finds", least=4),
        "findstwins": Plain(part="findstwins"),
        "last": ShortConfig(part="finds", least=0),
    }
    out = made(tmp_path / "a", stage({"text": LinesConfig(part="lines", path=str(folder))}, filters, workers=workers))
    rows = {row["name"]: row for row in corpus.funnel(out)["filters"]}
    texts = {
        f"text/{path.name}:{number}": line
        for path in sorted(folder.iterdir())
        for number, line in enumerate(path.read_text().split("\n"))
    }
    both = [name for name, text in texts.items() if "OK" in text and "#" in text]
    assert rows["finds"]["counts"] == {word: sum(t.count(word) for t in texts.values()) for word in ("#", "OK")}
    assert rows["finds"]["noted"] == [{"id": name, "note": f"both in {texts[name]!r}"} for name in both[:5]]
    dropped = {name: "too_short" if len(t) < 4 else t[0] for name, t in texts.items() if len(t) < 4 or t[0] in "72"}
    assert rows["finds"]["dropped"] == dict(sorted(Counter(dropped.values()).items()))
    for reason in ("too_short", "7", "2"):
        shown = [row for row in rows["finds"]["sample"] if row["reason"] == reason]
        first = [name for name, other in dropped.items() if other == reason][:3]
        assert [(row["id"], row["text"]) for row in shown] == [(name, texts[name]) for name in first]

    kept = {name: text for name, text in texts.items() if name not in dropped}
    twins = {name: text for name, text in kept.items() if list(kept.values()).count(text) > 1}
    originals = {text: name for name, text in reversed(twins.items())}
    assert rows["findstwins"]["counts"] == {"twins": len(twins) - len(originals)}
    order = [name for name in twins if name in originals.values()][:5]
    assert rows["findstwins"]["noted"] == [
        {"id": name, "note": f"{list(twins.values()).count(twins[name]) - 1} twins"} for name in order
    ]
    # A row-wise filter behind a corpus-wise one counts what that one left.
    left = [text for name, text in kept.items() if name not in twins or originals[text] == name]
    assert rows["last"]["counts"] == {word: sum(text.count(word) for text in left) for word in ("#", "OK")}
