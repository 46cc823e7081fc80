"""The suite of exporters sees what is wrong, and says so by the right check."""

from __future__ import annotations

import pytest
from lmgraft.testing import ExporterSuite, Nonconforming
from third_party import Distribution, component, module

PACK = """\
import gzip
import json
import os
import time
from pathlib import Path

from lmgraft.artifacts import checkpoint


class Pack:
    def __init__(self, config):
        pass

    def export(self, model, out):
        checkpoint.verify(model)
        names = sorted(checkpoint.headers(model))
        (out / "names.gz").write_bytes(gzip.compress(json.dumps(names).encode(), mtime=0))
"""
INFORMED = (
    PACK.replace(
        "    def export(self, model, out):\n",
        """\
    def export(self, model, out):
        self.export_informed(model, out, Known())

    def export_informed(self, model, out, known, progress=lambda done, total: None):
""",
    )
    .replace(
        "        names = sorted(",
        """\
        (out / "told").write_text(f"{known.name} {known.license}".strip())
        names = sorted(""",
    )
    .replace("from lmgraft.artifacts", "from lmgraft.seams.exporter import Known\nfrom lmgraft.artifacts")
    + """\
        for number in range(8):
            progress(number + 1, 8)
"""
)
WRITE = "gzip.compress(json.dumps(names).encode(), mtime=0)"
LIGHT = """\
from dataclasses import dataclass
from typing import ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl


@dataclass
class PackConfig(ComponentConfig):
    asks: ClassVar[tuple[str, ...]] = ("name", "license")


@hookimpl
def lmgraft_exporter():
    return [Component(name="wrong_pack", target="wrong_pack.part:Pack", config=PackConfig, summary="Names")]
"""
SAME, BROKEN = "test_the_same_bytes_elsewhere_and_later", "test_a_broken_folder_is_refused"
LINK = '(out / "link").symlink_to(model / "config.json")'

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("mtime=0", "mtime=None", SAME, "names.gz"),
    (WRITE, 'str(model).encode()', SAME, "another place and time"),
    (WRITE, 'str(model.stat().st_mtime).encode()', SAME, "another place and time"),
    ('(out / "names.gz")', '(model / "names.gz")', "test_writes_files", "writes nothing"),
    ("names = sorted", f"{LINK}\n        names = sorted", "test_writes_files", "link"),
    ('(out / "names.gz")', '(model / "names.gz")', "test_input_is_untouched", "not below"),
    ('(out / "names.gz")', '(out.parent / "names.gz")', "test_input_is_untouched", "not below"),
    ("checkpoint.verify(model)\n", "pass\n", BROKEN, "takes a model folder without config.json"),
    ("checkpoint.verify(model)", "json.loads((model / 'config.json').read_text())", BROKEN,
     "breaks off on a model folder without config.json"),
    (WRITE, "os.urandom(8)", "test_equal_builds", "behave differently"),
]  # fmt: skip

ASKS, NOTHING, PROGRESS = "test_it_asks_for_what_it_tells", "test_nothing_known", "test_progress_reaches_the_end"
#: The same for one that is told what is known; its settings ask for name and licence.
WRONG_INFORMED = [
    ('"name"', '"title"', ASKS, "ask for 'title'"),
    ('"license"', '"scores"', ASKS, "asks for scores and does not tell it"),
    ("def export_informed", "def export_told", ASKS, "is told nothing"),
    ("Known())", 'Known(name="x"))', NOTHING, "nothing is known"),
    ("number + 1, 8", "1, 9", PROGRESS, "does not end at its end"),
    ("range(8)", "range(1)", PROGRESS, "calls progress 1 times"),
]


@pytest.fixture
def suite(site):
    made = []

    def install(source: str, light: str | None = None) -> ExporterSuite:
        files = {
            "wrong_pack/__init__.py": "",
            "wrong_pack/plugin.py": light or module("exporter", component("wrong_pack", "wrong_pack.part:Pack")),
            "wrong_pack/part.py": source,
        }
        site.install(Distribution("wrong-pack", files, {"exporter": {"wrong_pack": "wrong_pack.plugin"}}))
        made.append(type("TestPack", (ExporterSuite,), {"component": "wrong_pack"})())
        made[-1].setup_method()
        return made[-1]

    yield install
    for one in made:
        one.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"),
    WRONG,
    ids=[f"{check}-{number}" for number, (_, _, check, _) in enumerate(WRONG)],
)
def test_a_wrong_exporter_is_seen(suite, right, wrong, check, word):
    assert PACK.count(right) == 1
    with pytest.raises(Nonconforming, match=word):
        getattr(suite(PACK.replace(right, wrong)), check)()


@pytest.mark.parametrize("check", sorted({check for *_, check, _ in WRONG}))
def test_a_right_one_passes(suite, check):
    getattr(suite(PACK), check)()


def told(suite, right: str = "", wrong: str = "") -> ExporterSuite:
    """The suite of the informed one, with a slip in its part or in its settings."""
    light = LIGHT.replace(right, wrong) if right else LIGHT
    part = INFORMED.replace(right, wrong) if right else INFORMED
    assert not right or (light, part) != (LIGHT, INFORMED)
    return suite(part, light)


@pytest.mark.parametrize(("right", "wrong", "check", "word"), WRONG_INFORMED)
def test_a_wrong_informed_exporter_is_seen(suite, right, wrong, check, word):
    with pytest.raises(Nonconforming, match=word):
        getattr(told(suite, right, wrong), check)()


@pytest.mark.parametrize("check", [ASKS, NOTHING, PROGRESS, SAME, BROKEN, "test_writes_files"])
def test_a_right_informed_one_passes(suite, check):
    getattr(told(suite), check)()
