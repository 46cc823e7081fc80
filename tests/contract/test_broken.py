"""Broken distributions in numbers: they are listed, explained, refused where selected, and disturb nothing else."""

from __future__ import annotations

import json

import pytest
from broken_distributions import BROKEN, FAULTS, PROBLEMS

#: A recipe of first-party parts in one line of overrides each.
CORPUS = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - filter@corpus.filters: [{filter}]
  - _self_
stages: [corpus]
corpus:
  workers: 1
  sources:
    files:
      path: text
"""


def recipe(messy, part: str) -> list[str]:
    (messy / "one.yaml").write_text(CORPUS.format(filter=part), encoding="utf-8")
    return ["run", "one.yaml", "store.dir=store"]


def test_what_nobody_selects_disturbs_nothing_and_is_not_imported(messy):
    imported = {"IMPORTED": str(messy / "imported")}
    messy("plugins", "list", **imported)
    messy("recipes", **imported)
    messy("--help", **imported)
    assert "would run" in messy(*recipe(messy, "length"), "--dry-run", **imported).stdout
    assert not (messy / "imported").exists()
    # A third party's part among all the broken ones: only its own module is imported.
    messy(*recipe(messy, "keeping"), "--dry-run", **imported)
    assert (messy / "imported").read_text().split() == ["good_parts.plugin"]


def test_the_list_has_all_of_them_with_what_metadata_tells(messy):
    rows = json.loads(messy("plugins", "list", "--json").stdout)
    states = {row["distribution"]: (row["state"], row["reason"]) for row in rows}
    # Where the name cannot be read, the folder's stands for it.
    assert {distribution.name for distribution in BROKEN} - {"torn-head", "half-gone"} | set(FAULTS) <= set(states)
    assert {row["state"] for row in rows} == {"unchecked", "broken", "incompatible"}
    for name, (_, cause, _) in FAULTS.items():
        assert states[name][0] == "broken"
        assert cause in states[name][1]
    assert states["clash-one"] == ("broken", "the name is also provided by clash-two 2.0")
    assert states["clash-two"] == ("broken", "the name is also provided by clash-one 1.0")
    assert states["wants-newer"][0] == "incompatible"
    assert states["raises-exit"] == states["good-parts"] == ("unchecked", "")
    table = messy("plugins", "list", "--seam", "filter").stdout
    assert "clash-one 1.0" in table
    assert "the name is also provided by clash-two 2.0" in " ".join(table.split())


@pytest.mark.parametrize("name", PROBLEMS)
def test_why_says_the_state_the_cause_and_the_remedy(messy, name):
    state, cause, remedy = PROBLEMS[name]
    first, because, try_, last = messy("plugins", "why", name).stdout.splitlines()
    part = "wants_newer" if name == "wants-newer" else name
    assert first == f"{'lifecycle' if name.startswith('hears') else 'filter'} {part}: {state}"
    assert because.startswith("  because: ")
    assert cause in because
    assert try_.startswith("  try: ")
    assert remedy in try_
    assert last == f"{name} 1.0: 1 part, 1 not usable"


@pytest.mark.parametrize("name", FAULTS)
def test_why_of_what_is_no_part_says_the_cause_and_the_remedy(messy, name):
    label, cause, remedy = FAULTS[name]
    first, because, try_, last = messy("plugins", "why", name).stdout.splitlines()
    assert first == f"{label}: broken"
    assert because.startswith("  because: ")
    assert cause in because
    assert remedy in try_
    assert last == f"{name} 1.0: {'1 part' if label == 'filters strays' else '0 parts'}, 1 not usable"


def test_show_of_a_name_in_a_group_that_is_no_seams_says_so(messy):
    said = messy("plugins", "show", "strays", code=2).stderr
    assert "'strays' of strays 1.0 is no part" in said
    assert "did you mean lmgraft.filter?" in said


def test_why_of_what_works_says_ok_and_nothing_is_left_unchecked(messy):
    said = messy("plugins", "why", "good-parts").stdout
    assert said.splitlines()[:2] == ["filter keeping: ok", "schedule flat: ok"]
    assert "2 parts, 0 not usable" in said


def test_why_of_a_name_that_clashes_and_of_one_that_is_not_there(messy):
    said = messy("plugins", "why", "clash_two").stdout
    assert "because: the name is also provided by clash-one 1.0" in said
    assert "try: pip uninstall clash-two (or the other one)" in said
    problem = messy("plugins", "why", "clash-tow", code=2).stderr
    assert "clash-tow brings no part" in problem
    assert "did you mean clash-two?" in problem


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("clash", ["filter 'clash' is provided by clash-one 1.0 and by clash-two 2.0", "try: pip uninstall clash-two"]),
        ("raises-exit", ["filter 'raises-exit' of raises-exit 1.0 (raises_exit.plugin) cannot be used", "SystemExit"]),
        ("spells-wrong", ["there is no hook lmgraft_fliter; did you mean lmgraft_filter?"]),
        ("wants_newer", ["wants-newer 1.0", "it wants lmgraft>=9"]),
        (
            "needs-more",
            ["corpus.filters.needs-more: needs-more needs no-such-dist>=1", "pip install 'no-such-dist>=1'"],
        ),
        ("keepin", ["there is no filter named 'keepin'", "did you mean keeping?"]),
    ],
)
def test_a_recipe_that_selects_one_stops_before_any_work(messy, part, words):
    said = messy(*recipe(messy, part), "run.dir=out", code=2).stderr
    assert all(word in said for word in words), said
    assert not (messy / "out").exists()
    assert not (messy / "store").exists()


def test_what_a_plugin_prints_is_not_in_a_commands_result(messy):
    done = messy(*recipe(messy, "keeping"), "--cfg", "job", "--package", "corpus.filters")
    assert "prints as it is imported" in done.stderr
    assert "prints as it is imported" not in done.stdout
    assert "keeping:" in done.stdout


def test_check_says_what_metadata_shows_before_any_check(messy):
    said = messy("plugins", "check", "raises-import", "--json", code=2).stdout
    first, *others = json.loads(said)
    assert (first["check"], first["state"]) == ("test_entry_point", "failed")
    assert "No module named 'no_such_module_anywhere'" in first["cause"]
    assert {other["state"] for other in others} == {"skipped"}
