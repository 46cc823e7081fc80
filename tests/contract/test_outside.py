"""A second distribution, built and installed for real, does its work through the command line alone."""

from __future__ import annotations

import json

import pytest

TEXTS = """\
A penny saved is a penny earned.
%
THIS ONE SHOUTS AT EVERYBODY
%
Word
%
Two words, and a NAME in capitals.

A second paragraph of the same text.
%
"""


@pytest.fixture
def fortunes(outside):
    folder = outside / "fortunes"
    folder.mkdir()
    (folder / "wise").write_text(TEXTS, encoding="utf-8")
    (folder / "wise.dat").write_bytes(b"\x00\x00\x00\x02")
    (folder / "more").write_text("Only one text, without an end mark.", encoding="utf-8")
    return outside


def test_it_is_listed_shown_and_found_good(outside):
    rows = json.loads(outside("plugins", "list", "--json").stdout)
    own = [row for row in rows if row["distribution"] == "outside-fortunes"]
    assert [(row["seam"], row["name"], row["version"], row["state"]) for row in own] == [
        ("data_source", "fortunes", "0.3.1", "unchecked"),
        ("filter", "shouting", "0.3.1", "unchecked"),
    ]
    shown = outside("plugins", "show", "shouting").stdout
    assert "Largest share of upper-case letters." in shown
    assert "outside-fortunes 0.3.1, outside_fortunes.plugin" in shown
    assert outside("plugins", "why", "Outside_Fortunes").stdout.splitlines() == [
        "data_source fortunes: ok",
        "filter shouting: ok",
        "outside-fortunes 0.3.1: 2 parts, 0 not usable",
    ]


def test_its_recipe_runs_to_the_end_with_its_own_parts(fortunes):
    run, read = ["run", "fortunes", "fortunes.path=fortunes", "store.dir=store"], {}
    done = fortunes(*run, "run.dir=first")
    assert "corpus: ran" in done.stderr
    data = json.loads((fortunes / "first/run.json").read_text())
    assert data["status"] == "done"
    owners = {part["name"]: part["distribution"] for part in data["components"]}
    assert (
        owners.items() >= {"fortunes": "outside-fortunes", "shouting": "outside-fortunes", "length": "lmgraft"}.items()
    )

    for text in _texts(fortunes / "first/stages/corpus"):
        read[text.split()[0]] = text
    assert read == {
        "A": "A penny saved is a penny earned.",
        "Two": "Two words, and a NAME in capitals.\n\nA second paragraph of the same text.",
        "Only": "Only one text, without an end mark.",
    }
    funnel = (fortunes / "first/stages/corpus/funnel.json").read_text()
    assert "shouting" in funnel
    assert "too_few_words" in funnel

    # The same text at another place is the same work; another text is not.
    (fortunes / "fortunes").rename(fortunes / "moved")
    moved = ["run", "fortunes", "fortunes.path=moved", "store.dir=store"]
    assert "corpus: reused" in fortunes(*moved, "run.dir=second").stderr
    (fortunes / "moved/more").write_text("Another text.", encoding="utf-8")
    assert "would run" in fortunes(*moved, "--dry-run").stdout


def _texts(folder):
    from lmgraft.artifacts import corpus

    return [document.text for document in corpus.documents(folder, "train")]


def test_its_variant_sets_what_the_part_leaves_at_its_default(fortunes):
    cfg = ["run", "fortunes", "fortunes.path=fortunes", "--cfg", "job", "--package", "corpus.filters"]
    assert "share: 0.5" in fortunes(*cfg).stdout
    assert "share: 0.2" in fortunes(*cfg, "filter@corpus.filters=[shouting/strict,length]").stdout


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("corpus.filters.shouting.share=2", ["corpus.filters.shouting.share does not fit", "share is 2.0"]),
        ("corpus.filters.shouting.shar=1", ["did you mean corpus.filters.shouting.share"]),
        ("fortunes.path=nowhere", ["nowhere", "nothing is there"]),
        ("fortunes.path=latin", ["latin: line 2", "not UTF-8"]),
    ],
)
def test_what_is_wrong_is_said_in_its_own_words(fortunes, override, words):
    (fortunes / "latin").write_bytes(b"fine\nna\xefve\n")
    overrides = [override] if override.startswith("fortunes") else ["fortunes.path=fortunes", override]
    said = fortunes("run", "fortunes", *overrides, "run.dir=bad", "store.dir=store", code=2).stderr
    assert all(word in said for word in words), said
    assert "because:" in said
    assert "try:" in said
