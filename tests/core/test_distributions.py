"""Metadata as it is found on disks: torn, unreadable, half removed. Each fault is said, and hides nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lmgraft import distributions, paths, table
from third_party import Distribution, component, forget, module

ODD = Distribution(
    "odd-parts",
    {"odd_parts/__init__.py": "", "odd_parts/plugin.py": module("filter", component("odd"))},
    {"filter": {"odd": "odd_parts.plugin"}},
)
HEAD = "Metadata-Version: 2.1\nName: torn-parts\nVersion: 3.1\n"
POINTS = "[lmgraft.filter]\ntorn = torn.plugin\n"


def leave(folder: Path, name: str, **files: str | bytes) -> Path:
    """A .dist-info folder with these files; ``points`` and ``head`` are their usual ones."""
    place = folder / f"{name}.dist-info"
    place.mkdir()
    for key, content in files.items():
        file = place / {"points": "entry_points.txt", "head": "METADATA"}.get(key, key)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


def faults(site) -> list[table.Row]:
    forget(site.folder)
    # Whatever is wrong with one, the others are there, parts and recipes both.
    assert [row.state for row in table.rows() if row.name == "odd"] == ["unchecked"]
    assert "quickstart" in paths.recipe_files()
    assert {row.state for row in table.faults()} <= {"broken"}
    assert table.listed() == (*table.rows(), *table.faults())
    return list(table.faults())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[lmgraft.filter\ntorn = torn.plugin\n", "File contains no section headers"),
        (b"[lmgraft.filter]\nno pair\n", "parsing errors"),
        (b"[lmgraft.filter]\ntorn = torn.\xff\xfe\n", "can't decode byte 0xff"),
    ],
)
def test_entry_points_that_cannot_be_read_are_a_row_without_a_part(site, text, why):
    site.install(ODD)
    leave(site.folder, "torn_parts-3.1", points=text, head=HEAD)
    (row,) = faults(site)
    assert (row.seam, row.name, row.distribution, row.version) == ("", "", "torn-parts", "3.1")
    assert row.reason.startswith("its entry_points.txt cannot be read: ")
    assert why in row.reason
    assert row.remedy == "pip install --force-reinstall torn-parts"
    assert "\n" not in row.reason


def test_entry_points_that_cannot_be_read_and_are_none_of_ours_are_none_of_our_business(site):
    site.install(ODD)
    leave(site.folder, "foreign-1.0", points=b"[console_scripts]\nx = \xff\xfe\n", head=HEAD)
    leave(site.folder, "other-1.0", points=b"[console_scripts\nx\n", head=HEAD)
    assert faults(site) == []


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"Name: torn\xff\nVersion: 3.1\n", "its metadata cannot be read: UnicodeDecodeError"),
        (None, "its metadata gives no name"),
        (b"", "its metadata gives no name"),
    ],
)
def test_a_distribution_without_a_readable_name_goes_by_its_folders(site, head, why):
    site.install(ODD)
    place = leave(site.folder, "torn_parts-3.1", points=POINTS, **({} if head is None else {"head": head}))
    (row,) = faults(site)
    assert (row.seam, row.distribution, row.version) == ("", "torn_parts", "3.1")
    assert row.reason.startswith(why)
    assert row.remedy == f"remove {place}, and pip install torn_parts again"


@pytest.mark.parametrize("name", ["odd_parts-0.9", "odd_parts-2.0"])
def test_what_a_killed_upgrade_left_shadows_nothing(site, name):
    site.install(ODD)
    leave(site.folder, name, points=POINTS)
    (row,) = faults(site)
    assert row.distribution == "odd_parts"


def test_metadata_without_a_version_is_read(site):
    site.install(ODD)
    leave(site.folder, "torn_parts-3.1", points=POINTS, head="Metadata-Version: 2.1\nName: torn-parts\n")
    assert faults(site) == []
    assert [row.version for row in table.rows() if row.name == "torn"] == ["?"]


@pytest.mark.parametrize(
    ("group", "reason", "remedy"),
    [
        (
            "objectives",
            "did you mean lmgraft.objective?",
            'its author writes [project.entry-points."lmgraft.objective"]',
        ),
        ("recipe", "did you mean lmgraft.recipes?", 'its author writes [project.entry-points."lmgraft.recipes"]'),
        ("zygote", "its entry-point group lmgraft.zygote is none of lmgraft ", "pip install --upgrade lmgraft"),
    ],
)
def test_a_group_that_is_no_seams_is_said_and_is_no_part(site, group, reason, remedy):
    site.install(
        ODD, Distribution("strays", {"strays.py": ""}, {group: {"mine": "strays"}, "filter": {"it": "strays"}})
    )
    (row,) = faults(site)
    assert (row.seam, row.name, row.distribution, row.state) == (group, "mine", "strays", "broken")
    assert reason in row.reason
    assert remedy in row.remedy
    assert table.select(group, "mine") == []
    assert table.seams_of("mine") == []
    assert [row.state for row in table.rows() if row.name == "it"] == ["unchecked"]


def test_the_groups_of_recipes_and_suites_are_known(site):
    files = {"more/__init__.py": "", "more/recipes/mine.yaml": "stages: []\n"}
    site.install(
        ODD, Distribution("more", files, {"recipes": {"more": "more.recipes"}, "testing": {"x": "more.suites"}})
    )
    assert faults(site) == []
    assert paths.recipe_files()["mine"] == (site.folder / "more/recipes/mine.yaml", "more")


def test_a_package_of_recipes_that_is_gone_is_said(site):
    site.install(ODD, Distribution("gone", {}, {"recipes": {"all": "gone_recipes.here"}}))
    (row,) = faults(site)
    assert (row.seam, row.name) == ("recipes", "all")
    assert row.reason == "its package of recipes gone_recipes.here is not on the import path"


def test_a_distribution_that_some_other_finder_brings_may_raise_anything(site, monkeypatch):
    real = distributions.metadata.distributions

    class Strange(distributions.metadata.Distribution):
        def read_text(self, filename):
            if filename == "entry_points.txt":
                return POINTS
            raise RuntimeError("no such file in the archive")

        def locate_file(self, path):
            raise NotImplementedError

    monkeypatch.setattr(distributions.metadata, "distributions", lambda: [Strange(), *real()])
    site.install(ODD)
    (row,) = faults(site)
    assert row.reason == "its metadata cannot be read: RuntimeError: no such file in the archive"


def test_an_import_hook_of_another_tool_that_raises_is_no_reason_to_fall_over(site, monkeypatch):
    class Raises:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torn":
                raise RuntimeError("an editable install that points nowhere")

    monkeypatch.setattr("sys.meta_path", [Raises, *__import__("sys").meta_path])
    site.install(ODD, Distribution("torn", {}, {"filter": {"torn": "torn.plugin"}}))
    assert faults(site) == []
    (row,) = table.select("filter", "torn")
    assert row.reason == "its package torn is not on the import path"
    assert table.location(row) is None


LOOK = """
import sys
import importlib_metadata
sys.path.insert(0, sys.argv[1])
from lmgraft import table
print([row.version for row in table.rows() if row.name == "torn"], [row.reason[:26] for row in table.faults()])
"""


def test_the_backport_s_finder_changes_nothing(tmp_path):
    """awkward, which gigatoken takes along, imports it, and it puts its finder before Python's own for good."""
    pytest.importorskip("importlib_metadata")
    leave(tmp_path, "torn_parts-3.1", points=POINTS, head="Metadata-Version: 2.1\nName: torn-parts\n")
    leave(tmp_path, "bare_parts-1.0", points=POINTS.replace("torn", "bare"))
    said = subprocess.run([sys.executable, "-c", LOOK, tmp_path], capture_output=True, text=True, check=True)
    assert said.stdout == "['?'] ['its metadata gives no name']\n"
