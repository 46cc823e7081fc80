"""Tokenizers and encoded text on the page: tables, passages as tokens, what changed, histograms; hostile text too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page
from lmgraft.artifacts.examples import EncodedBy, RowCount, RowsInfo
from lmgraft.artifacts.tokens import TokenWriter
from lmgraft.report.packed import lengths
from lmgraft.report.page import html
from lmgraft.stages._tokenizer_measure import _tokens
from lmgraft.tokenview.view import open_file
from token_views import byte_level, word_piece

ATTACK = '<script>alert("x")</script>"\' onmouseover=x'


def group(tokens: int, **more: Any) -> dict[str, Any]:
    row = {"split": "validation", "documents": 3, "lines": 9, "bytes": 3000, "characters": 2000, "words": 300}
    return row | {"tokens": tokens, "unknown": 0} | more


def changed(lines: int) -> dict[str, Any]:
    return {name: {"changed": lines, "of": 9, "share": lines / 9} for name in ("documents", "lines", "bytes")}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a tokenizer that was compared with a base, and with packed tokens of it."""
    view, base = open_file(byte_level(tmp_path / "a.json")), open_file(word_piece(tmp_path / "b.json"))
    text = f"the quick 漢\n{ATTACK}"
    stages = tmp_path / "run" / "stages"
    (stages / "extended").mkdir(parents=True)
    (stages / "tokens").mkdir()
    sources = {
        "web": group(600, base=group(900), changed=changed(0)),
        ATTACK: group(400, base=group(800), changed=changed(3)),
    }
    languages = {
        "Han": group(500, unknown=5, base=group(1000), changed=changed(9)),
        "Latin": group(500, base=group(500), changed=changed(0)),
    }
    pieces = {"longest": [[7, "·" * 12, 12]], "unused": 12, "of": 48, "unused_first": [[9, ATTACK, 0]]}
    measure = group(1000) | {
        "vocab_size": 49_953,
        "sources": sources,
        "languages": languages,
        "base": group(1700) | {"vocab_size": 32_000, "kept": True, "compared": "ids"},
        "changed": changed(3),
        "pieces": pieces | {"top": [[3, "·the", 99]]},
    }
    passage = {"source": "web", "language": "Han", "document": "web/1", "text": text}
    passage |= {"tokens": _tokens(view, text), "base": _tokens(base, text)}
    sample = {"rule": "every n-th", "sample_bytes": 9, "bytes": 5, "of_bytes": 10,
              "sources": {"web": {"bytes": 5, "pieces": 1, "of_bytes": 10, "of_documents": 2}}}  # fmt: skip
    row = {"source": "web", "document": "web/9", "line": 4, "before": ["·a", ATTACK], "after": ["·a" + ATTACK]}
    for name, found in (("measure", measure), ("look", {"passages": [passage]}), ("sample", sample)):
        (stages / "extended" / f"{name}.json").write_text(json.dumps(found))
    (stages / "extended" / "changed.jsonl").write_text(json.dumps(row) + "\n{broken\n")
    with TokenWriter(stages / "tokens" / "train", np.dtype("<u2"), 0) as writer:
        for length in (3, 10, 20, 20, 100):
            writer.add(np.ones(length, dtype=np.int32))
    count = {"documents": 5, "tokens": 158, "bytes": 316, "characters": 237}
    held = {"vocab_size": 49_953, "dtype": "uint16", "fingerprint": "abcdef0123456789", "end_id": 0, "pad_id": 1}
    (stages / "tokens" / "tokens.json").write_text(json.dumps(held | {"splits": {"train": count}}))
    recipe = {"tokens": {"kind": "tokens", "tokenizer": "extended", "encoder": "auto"}}
    data = {"recipe_name": "r", "stages": {"extended": {}, "tokens": {}}, "recipe": recipe}
    (tmp_path / "run" / "run.json").write_text(json.dumps(data))
    return tmp_path / "run"


def page(run: Path) -> Page:
    (run / "report.html").write_text(html(run), encoding="utf-8")
    return Page(run / "report.html")


def rows(found: Page) -> list[str]:
    """Every row of every table as one line of text."""
    parts = re.findall(r"<tr.*?</tr>", found.source, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in parts]


def test_a_tokenizer_has_its_tables_by_language_and_source(run: Path) -> None:
    found = page(run)
    assert {"tokenizers", "tokens"} <= set(found.ids())
    said = " ".join(found.text.split())
    assert "extended 49,953 ids" in said
    assert "Compared with a base of 32,000 ids: every id of it is kept; 3 of 9 lines are encoded differently" in said
    # Bytes per token, characters per token, tokens per word, unknown; the base's, tokens, lines and text changed.
    assert "Han 3 kB, validation 6.000 4.00 1.67 1.0% 3.000 -50.0% 100.0% 100.0%" in rows(found)
    assert "Latin 3 kB, validation 6.000 4.00 1.67 0 6.000 0.0% none none" in rows(found)
    assert "web 3 kB, validation 5.000 3.33 2.00 0 3.333 -33.3% none none" in rows(found)
    assert "all 3 kB, validation 3.000 2.00 3.33 0 1.765 -41.2% 33.3% 33.3%" in rows(found)
    bars = [attributes["style"] for tag, attributes in found.tags if tag == "i" and "style" in attributes]
    assert "width:100.0%" in bars


def test_a_passage_is_cut_into_tokens_with_ids_on_hover_and_text_that_is_harmless(run: Path) -> None:
    found = page(run)
    assert "<script" not in found.source
    assert "onmouseover" not in str([attributes for _, attributes in found.tags if "onmouseover" in attributes])
    spans = [
        attributes
        for tag, attributes in found.tags
        if tag == "span" and str(attributes.get("class", "")).startswith("t ")
    ]
    titles = [str(attributes["title"]) for attributes in spans if "title" in attributes]
    assert any(title.startswith("id ") for title in titles)
    assert any("unknown" in str(attributes["class"]) for attributes in spans)  # of the base, WordPiece
    assert any("differs" in str(attributes["class"]) for attributes in spans)
    assert "the·quick·<0xE6><0xBC><0xA2>↵\n" in found.text
    assert {str(attributes["class"]).split()[1] for attributes in spans} == {"t0", "t1", "t2", "t3", "t4"}


def test_pieces_the_sample_and_changed_lines(run: Path) -> None:
    said = " ".join(page(run).text.split())
    assert "12 of 48 (25.0%) that the measured text never used" in said
    assert "Learnt from 5 bytes of 10 bytes of text" in said
    assert "web/9, line 4" in said
    assert "The first 1 lines that are encoded differently" in said


def test_packed_tokens_have_their_counts_and_a_histogram(run: Path) -> None:
    found = page(run)
    said = " ".join(found.text.split())
    assert "tokenizer extended, 49,953 ids, fingerprint abcdef012345" in said
    assert "encoder" not in said.partition("The recipe")[0].partition("fingerprint abcdef012345")[2][:40]
    assert "train 5 158 32 316 bytes 2.000 1.500" in rows(found)
    assert lengths(run / "stages" / "tokens", "train") == {"16": 2, "24": 2, "128": 1}
    assert "up to 16: 2; up to 24: 2; up to 128: 1" in found.text
    heights = [
        float(str(attributes["height"]))
        for tag, attributes in found.tags
        if tag == "rect" and attributes.get("class") == "own"
    ]
    assert heights[:2] == [130.0, 130.0]
    assert 65.0 in heights


@pytest.mark.parametrize(
    ("setting", "chosen", "shown"),
    [("auto", "tokenizers", "tokenizers"), ("auto", "gigatoken", "gigatoken"), ("tokenizers", None, "tokenizers")],
)
def test_the_library_that_encoded_is_told_and_not_the_setting(
    run: Path, setting: str, chosen: str | None, shown: str
) -> None:
    """``auto`` names none; a run of an older lmgraft tells what its recipe asked for."""
    data = json.loads((run / "run.json").read_text())
    data["recipe"]["tokens"]["encoder"] = setting
    (run / "run.json").write_text(json.dumps(data))
    if chosen is not None:
        (run / "metrics.jsonl").write_text(json.dumps({"stage": "tokens", "encoder": chosen}) + "\n")
    assert f"fingerprint abcdef012345, encoder {shown} " in " ".join(page(run).text.split())


def test_rows_have_their_own_columns(tmp_path: Path) -> None:
    (tmp_path / "stages" / "rows").mkdir(parents=True)
    count = RowCount(documents=4, units=4, sequences=8, tokens=200, learnt=50, longest=60, lengths={"16": 3, "64": 5})
    made_by = EncodedBy("sft", "ab", 1, {"template": "solar"})
    RowsInfo(300, "ff", 0, 1, "cd", made_by, [], {"train": count}).write(tmp_path / "stages" / "rows")
    recipe = {"rows": {"kind": "tokens", "tokenizer": "tokenizer", "encoder": "auto"}}
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"rows": {}}, "recipe": recipe}))
    found = page(tmp_path)
    said = " ".join(found.text.split())
    assert "rows of sft" in said
    assert "encoder auto" not in said  # it is for plain text
    assert "train 4 200 50 25.0% 60" in rows(found)
    assert "up to 16: 3; up to 64: 5" in found.text


@pytest.mark.parametrize(
    "broken", ['{"vocab_size": 5, "tokens": "many"}', '{"a": 1}', '{"vocab_size": 5, "sources": 7}']
)
def test_files_of_another_kind_leave_a_page_that_says_so(run: Path, broken: str) -> None:
    (run / "stages" / "extended" / "measure.json").write_text(broken)
    (run / "stages" / "tokens" / "train.idx").write_bytes(b"short")
    found = page(run)
    assert "what extended measured cannot be shown" in found.text or "extended 5 ids" in " ".join(found.text.split())
    assert "train.idx cannot be read" in found.text


def test_an_older_artifact_has_its_page_too(run: Path) -> None:
    old = {"vocab_size": 400, "split": "train", "bytes": 10, "tokens": 5}
    for name in ("look.json", "sample.json", "changed.jsonl"):
        (run / "stages" / "extended" / name).unlink()
    (run / "stages" / "extended" / "measure.json").write_text(json.dumps(old))
    assert "extended 400 ids" in " ".join(page(run).text.split())
