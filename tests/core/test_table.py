"""The static table over distributions as pip leaves them: whole, shadowed, clashing and damaged ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lmgraft import table
from lmgraft.version import DOORS, SEAMS
from third_party import Distribution, component, forget, module

ODD = Distribution(
    "odd-parts",
    {"odd_parts/__init__.py": "", "odd_parts/plugin.py": module("filter", component("odd"))},
    {"filter": {"odd": "odd_parts.plugin"}},
)


def row(name: str) -> table.Row:
    (found,) = [row for row in table.rows() if row.name == name]
    return found


def test_a_row_says_what_metadata_says_and_nothing_is_imported(site):
    site.install(ODD)
    found = row("odd")
    assert (found.seam, found.distribution, found.version) == ("filter", "odd-parts", "1.0")
    assert (found.module, found.state, found.reason, found.editable) == ("odd_parts.plugin", "unchecked", "", False)
    assert not [name for name in sys.modules if name.startswith("odd_parts")]
    assert table.location(found) == site.folder / "odd_parts"
    assert table.select("filter", "odd") == [found]
    assert table.seams_of("odd") == ["filter"]


def test_rows_come_in_the_order_a_model_meets_the_seams(site):
    several = Distribution(
        "zz-several",
        {"zz_several/__init__.py": ""},
        {seam: {"b": "zz_several.plugin", "a": "zz_several.plugin"} for seam in reversed((*SEAMS, *DOORS))},
    )
    site.install(several)
    found = [(row.seam, row.name) for row in table.rows() if row.distribution == "zz-several"]
    assert found == [(seam, name) for seam in (*SEAMS, *DOORS) for name in ("a", "b")]


def test_names_keep_their_case_and_foreign_groups_are_left_alone(site):
    mixed = Distribution(
        "mixed", {"mixed/__init__.py": ""}, {"filter": {"CamelCase": "mixed.plugin"}, "nonsense": {"x": "mixed.plugin"}}
    )
    site.install(mixed)
    assert [row.name for row in table.rows() if row.distribution == "mixed"] == ["CamelCase"]


def test_two_distributions_with_one_name_are_both_broken_and_name_each_other(site):
    other = Distribution(
        "other-parts", {"other_parts/__init__.py": ""}, {"filter": {"odd": "other_parts.p"}}, version="2.5"
    )
    site.install(ODD, other)
    states = {row.distribution: (row.state, row.reason) for row in table.rows() if row.name == "odd"}
    assert states == {
        "odd-parts": ("broken", "the name is also provided by other-parts 2.5"),
        "other-parts": ("broken", "the name is also provided by odd-parts 1.0"),
    }


def test_one_name_at_two_seams_is_no_clash(site):
    other = Distribution("other-parts", {"other_parts/__init__.py": ""}, {"schedule": {"odd": "other_parts.plugin"}})
    site.install(ODD, other)
    assert [row.state for row in table.rows() if row.name == "odd"] == ["unchecked", "unchecked"]
    assert table.seams_of("odd") == ["filter", "schedule"]


def test_an_older_copy_further_down_the_path_is_shadowed_as_it_is_for_import(site, tmp_path, monkeypatch):
    older = Distribution("Odd_Parts", ODD.files, ODD.parts, version="0.1")
    (tmp_path / "older").mkdir()
    older.unpack(tmp_path / "older")
    site.install(ODD)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "older")])
    forget(site.folder)
    assert row("odd").version == "1.0"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lmgraft>=9", "it wants lmgraft>=9, and this is lmgraft"),
        ("LMGraft<0.0.1", "it wants LMGraft<0.0.1, and this is lmgraft"),
        ("lmgraft >=> 1", "no valid requirement"),
        ('lmgraft>=9; python_version < "3"', ""),
        ('lmgraft>=9; extra == "new"', ""),
        ("lmgraft>=0.0.1", ""),
        ("lmgraft-tools>=9", ""),
        ("lmgraft_tools>=9", ""),
    ],
)
def test_a_distribution_that_wants_another_lmgraft_is_incompatible(site, line, reason):
    site.install(Distribution(ODD.name, ODD.files, ODD.parts, requires=["numpy", line]))
    assert row("odd").state == ("incompatible" if reason else "unchecked")
    assert reason in row("odd").reason


def test_a_part_whose_package_is_gone_is_broken(site):
    site.install(Distribution("gone", {}, {"filter": {"gone": "gone_package.plugin"}}))
    assert (row("gone").state, row("gone").reason) == ("broken", "its package gone_package is not on the import path")
    assert table.location(row("gone")) is None


@pytest.mark.parametrize("value", ["", ".", "odd_parts..plugin", "odd-parts.plugin", "odd_parts.plugin:Odd"])
def test_an_entry_point_that_names_no_module_is_no_reason_to_fall_over(site, value):
    site.install(Distribution(ODD.name, ODD.files, {"filter": {"odd": value}}))
    table.location(row("odd"))
    if ":" in value or not value.startswith("odd_parts"):
        assert row("odd").state == "broken"


def test_damaged_metadata_hides_no_other_distribution(site):
    # What `pip uninstall` leaves when it is killed, and files that no tool wrote.
    for name, text in {
        "half-1.0.dist-info": None,
        "torn-1.0.dist-info": "[lmgraft.filter\nodd",
        "x.dist-info": "",
    }.items():
        (site.folder / name).mkdir()
        if text is not None:
            (site.folder / name / "entry_points.txt").write_text(text + "\n[lmgraft.filter]\nnot a pair\n")
    (site.folder / "torn-1.0.dist-info" / "METADATA").write_text("Name: torn\nVersion: 1.0\n")
    site.install(ODD)
    assert row("odd").state == "unchecked"


def test_an_editable_install_says_so(site):
    (site.folder / "odd_parts-1.0.dist-info").mkdir()
    (site.folder / "odd_parts-1.0.dist-info" / "direct_url.json").write_text(
        '{"dir_info": {"editable": true}, "url": "file:///somewhere"}'
    )
    site.install(ODD)
    assert row("odd").editable


def test_close_words_are_suggested_and_far_ones_are_not():
    assert table.close("lenght", ["length", "files"]) == "did you mean length?"
    assert table.close("zzz", ["length", "files"]) == ""


def test_a_namespace_package_has_a_place_too(site):
    place = Path("acme/texts")
    site.install(
        Distribution(
            "acme-texts",
            {f"{place}/plugin.py": "", f"{place}/__init__.py": ""},
            {"filter": {"acme": "acme.texts.plugin"}},
        )
    )
    assert row("acme").state == "unchecked"
    assert table.location(row("acme")) == site.folder / "acme"
