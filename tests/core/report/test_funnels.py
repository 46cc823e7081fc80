"""The funnel on the page: bars to scale, samples by reason, what each source gave, what could not be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lmgraft.report.funnels import funnel
from lmgraft.report.page import html

ATTACK = "<script>x</script>"

FUNNEL: dict[str, Any] = {
    "documents": {"train": 500, "validation": 50},
    "bytes": {"train": 1_000_000, "validation": 50_000},
    "sources": {
        "web": {
            "documents": 350,
            "bytes": 650_000,
            "read": {"documents": 900, "bytes": 1_200_000, "repaired": 0},
            "damaged": {"bad_json": 2, ATTACK: 1},
            "damaged_bytes": 2048,
            "cut_short": 1,
            "damaged_sample": [{"unit": "a.jsonl", "reason": "bad_json", "fact": "line 3", "lost": "row"}],
        },
        "books": {"documents": 200, "bytes": 400_000, "read": {"documents": 100, "bytes": 150_000, "repaired": 0}},
    },
    "filters": [
        {
            "name": "length",
            "seen": 1000,
            "kept": 700,
            "rewritten": 3,
            "dropped": {"too_short": 100, "too_long": 200},
            "sample": [
                {"id": "web/7", "reason": "too_short", "text": ATTACK},
                {"id": "web/8", "reason": "too_long", "text": "aaa"},
                {"id": "web/9", "reason": "too_short", "text": "b"},
            ],
            "counts": {"email": 12, "ip": 3},
            "noted": [{"id": "web/1", "note": "recieve -> receive"}],
        },
        {"name": "exact", "seen": 700, "kept": 650, "rewritten": 0, "dropped": {"twin": 50}, "sample": []},
    ],
    "mixture": {
        "unit": "bytes",
        "total": 1_000_500,
        "weights": 101.0,
        "sources": {
            "web": {"weight": 60.0, "had": {"documents": 500, "bytes": 900_000}, "wanted": 600_000,
                    "wanted_share": 0.594, "documents": 320, "bytes": 599_000, "share": 0.5941, "epochs": 0.665},
            "books": {"weight": 41.0, "had": {"documents": 80, "bytes": 120_000}, "wanted": 400_500,
                      "wanted_share": 0.406, "documents": 180, "bytes": 400_000, "share": 0.4059, "epochs": 3.3333,
                      "printed_epochs": 2.9, "table_epochs": 3.47, "table_range": [3.3, 3.6], "why": "rounded <"},
        },
    },
}  # fmt: skip


def page(folder: Path, data: dict[str, Any]) -> str:
    (folder / "run.json").write_text(json.dumps({"recipe_name": "r", "stages": {"corpus": {}}}))
    (folder / "stages" / "corpus").mkdir(parents=True)
    (folder / "stages" / "corpus" / "funnel.json").write_text(json.dumps(data))
    return html(folder)


def bars(data: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Title of each bar -> (where it begins, its width)."""
    found = re.findall(
        r'<rect class="\w+" x="([\d.]+)" y="\d+" width="([\d.]+)"[^>]*><title>([^<]*)', funnel("c", data)["chart"]
    )
    return {name: (float(x), float(width)) for x, width, name in found}


def test_bars_are_to_scale_and_drops_stand_beside_what_was_kept() -> None:
    drawn = bars(FUNNEL)
    assert list(drawn) == [
        "read: 1,000",
        "length: 700",
        "length: 200 too_long",
        "length: 100 too_short",
        "exact: 650",
        "exact: 50 twin",
        "train split: 500",
        "validation split: 50",
    ]
    start, whole = drawn["read: 1,000"]
    assert drawn["length: 700"] == (start, whole * 0.7)
    assert drawn["length: 200 too_long"] == (start + whole * 0.7, whole * 0.2)
    assert drawn["length: 100 too_short"] == (start + whole * 0.9, whole * 0.1)
    assert drawn["exact: 50 twin"][1] == whole * 0.05


def test_a_mixture_that_writes_more_than_was_read_fits_too() -> None:
    drawn = bars({**FUNNEL, "documents": {"train": 4000, "validation": 0}})
    assert drawn["train split: 4,000"][1] == 4 * drawn["read: 1,000"][1]
    assert max(start + width for start, width in drawn.values()) <= 170 + 420
    assert "validation split: 0" not in drawn
    told = funnel("c", {**FUNNEL, "documents": {"train": 4000, "validation": 0}})
    assert (told["kept"], told["share"]) == ("650", "65.0%")
    assert told["splits"][0]["bar"] == "100.0%"


def test_the_chart_can_be_read_aloud() -> None:
    chart = str(funnel("c", FUNNEL)["chart"])
    said = "read: 1,000; length: 700, dropped 200 too_long, 100 too_short; exact: 650, dropped 50 twin"
    assert said in chart
    assert "− 200 too_long, 100 too_short</text>" in chart


def test_many_reasons_are_counted_beyond_the_fourth() -> None:
    step = {"name": "f", "seen": 30, "kept": 0, "dropped": {f"r{n}": 9 - n for n in range(7)}}
    chart = str(funnel("c", {**FUNNEL, "filters": [step]})["chart"])
    assert "− 9 r0, 8 r1, 7 r2, 6 r3 and 3 more</text>" in chart
    assert "f: 3 r6" in chart


def test_samples_stand_by_reason(tmp_path: Path) -> None:
    told = funnel("c", FUNNEL)["steps"][0]["sample"]
    assert [(row["reason"], row["number"], [one["id"] for one in row["rows"]]) for row in told] == [
        ("too_short", "100", ["web/7", "web/9"]),
        ("too_long", "200", ["web/8"]),
    ]
    text = page(tmp_path, FUNNEL)
    assert "Samples of the 300 that length dropped" in text
    assert "dropped</summary>" not in text.partition("exact dropped")[1]
    assert "recieve -&gt; receive" in text
    assert "found 12 email, 3 ip" in text
    assert ATTACK not in text
    assert text.count("&lt;script&gt;") >= 2


def test_sources_show_weight_share_and_epochs_beside_the_printed_ones(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in funnel("c", FUNNEL)["sources"]}
    assert rows["books"] == {
        "name": "books", "read": "100 (150 kB)", "documents": "180", "bytes": "400 kB", "share": "40.6%",
        "weight": "41", "wanted": "40.6%", "epochs": "3.33", "printed": "2.9", "why": "rounded <",
    }  # fmt: skip
    assert (rows["web"]["printed"], rows["web"]["epochs"]) == ("–", "0.665")
    text = page(tmp_path, FUNNEL)
    assert "weights are shares of 101, counted in bytes" in text
    for cell in ("<td class=\"num\">3.33</td>", "<td class=\"num\">2.9</td>", "rounded &lt;"):  # fmt: skip
        assert cell in text


def test_without_a_mixture_sources_show_what_they_gave(tmp_path: Path) -> None:
    plain = {key: value for key, value in FUNNEL.items() if key != "mixture"}
    text = page(tmp_path, plain)
    assert "What each source gave." in text
    assert "Weight" not in text
    assert "Epochs" not in text
    rows = funnel("c", plain)
    assert [row["share"] for row in rows["sources"]] == ["61.9%", "38.1%"]
    assert rows["kept"] == "550"


def test_what_could_not_be_read_is_told(tmp_path: Path) -> None:
    text = page(tmp_path, FUNNEL)
    assert "3 rows or files of web could not be read: 2 bad_json, 1 &lt;script&gt;" in text
    assert "the rest of 1 file or range is lost" in text
    assert "<code>a.jsonl</code> line 3" in text
    assert len(funnel("c", FUNNEL)["damage"]) == 1


def test_an_older_funnel_has_its_page_too(tmp_path: Path) -> None:
    old = {"documents": {"train": 5}, "filters": [{"name": "f", "seen": 7, "kept": 5}]}
    text = page(tmp_path, old)
    assert "7 documents seen, 5 kept" in text
