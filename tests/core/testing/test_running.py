"""How suites are found and run without pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from lmgraft import table
from lmgraft.errors import UserError
from lmgraft.testing import FilterSuite, running
from third_party import Distribution, component, forget, module

FILTER = """\
    from lmgraft.seams.filter import KEEP

    class Keeps:
        def __init__(self, config):
            pass

        def judge(self, batch):
            return [KEEP for _ in batch]
"""
SUITES = """\
    from lmgraft.testing import FilterSuite

    class TestKeeps(FilterSuite):
        component = "keeps"

    class TestManyKept(FilterSuite):
        component = "keeps"
        settings = {"size": 7}

    class TestMisspelt(FilterSuite):
        component = "keps"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def installed(suites: str) -> None:
        files = {
            "keeps/__init__.py": "",
            "keeps/plugin.py": module("filter", component("keeps", "keeps.filter:Keeps")),
            "keeps/filter.py": FILTER,
            "keeps/conformance.py": suites,
        }
        parts = {"filter": {"keeps": "keeps.plugin"}, "testing": {"any": "keeps.conformance"}}
        Distribution("keeps", files, parts, requires=["lmgraft<9"]).unpack(tmp_path)
        forget(tmp_path)

    monkeypatch.syspath_prepend(str(tmp_path))
    yield installed
    forget(tmp_path)


def rows() -> list[table.Row]:
    return [row for row in table.rows() if row.distribution == "keeps"]


def test_every_suite_of_a_part_is_run_and_one_that_names_no_part_fails(install: Any) -> None:
    install(SUITES)
    own = running.suites_of("keeps")
    assert [suite.__name__ for suite in running.suites_for(rows()[0], own)] == ["TestKeeps", "TestManyKept"]
    (misspelt,) = running.suites_of_nothing(rows(), own)
    first, *others = running.run(misspelt)
    assert first.state == "failed"
    assert "there is no filter named 'keps'" in first.fact
    assert {other.state for other in others} == {"skipped"}


def test_without_a_suite_of_its_own_a_part_gets_the_seams(install: Any) -> None:
    install("")
    (suite,) = running.suites_for(rows()[0], running.suites_of("keeps"))
    assert issubclass(suite, FilterSuite)
    assert {result.state for result in running.run(suite)} == {"passed", "skipped"}


@pytest.mark.parametrize(
    ("source", "words"),
    [("import pytest_no_such\n", "mend keeps.conformance"), ("raise ValueError('x')\n", "ValueError: x")],
)
def test_suites_that_cannot_be_imported_are_told(install: Any, source: str, words: str) -> None:
    install(source)
    with pytest.raises(UserError, match=r"the suites of keeps in keeps\.conformance cannot be read") as told:
        running.suites_of("keeps")
    assert words in str(told.value)


class WrongSettings(FilterSuite):
    component = "length"
    settings: ClassVar[dict[str, Any]] = {"min_wrods": 3}


def test_settings_that_do_not_compose_are_one_failure_that_names_the_suite() -> None:
    results = list(running.run(WrongSettings))
    failed = [result for result in results if result.state == "failed"]
    assert [result.check for result in failed] == ["test_defaults_compose"]
    assert "WrongSettings" in failed[0].fact
    assert "did you mean min_words" in failed[0].remedy
    assert "/" not in failed[0].fact + failed[0].cause + failed[0].remedy
    reasons = {result.reason for result in results if result.state == "skipped"}
    assert reasons == {"its settings cannot be composed"}


class Raises(FilterSuite):
    component = "length"

    def documents(self) -> Any:
        raise KeyError("no such text")


def test_what_a_check_raises_is_told_with_its_line() -> None:
    (failed,) = running.run(Raises, "order and length")
    assert failed.state == "failed"
    assert "raised KeyError in the check of order and length" in failed.fact
    assert "test_running.py, line " in failed.remedy


LIGHT = """\
    from dataclasses import dataclass

    from lmgraft.component import Component, ComponentConfig
    from lmgraft.hookspecs import hookimpl


    @dataclass
    class Config(ComponentConfig):
        size: int = 1

        def check(self):
            BODY


    @hookimpl
    def lmgraft_filter():
        return [Component(name="keeps", target="keeps.filter:Keeps", config=Config, summary="", variants=("few",))]
"""
FEW = """\
    defaults: [/filter/keeps@_here_, _self_]
    keeps:
      size: 2
"""


def failures(tmp_path: Path, **changed: str) -> dict[str, running.Result]:
    """What the bare suite says of a filter, one of whose files is changed."""
    files = {
        "keeps/__init__.py": "",
        "keeps/plugin.py": LIGHT.replace("BODY", "yield from ()"),
        "keeps/filter.py": FILTER,
        "keeps/conf/filter/keeps/few.yaml": FEW,
        "keeps/conformance.py": "",
    }
    names = {"plugin": "keeps/plugin.py", "part": "keeps/filter.py", "variant": "keeps/conf/filter/keeps/few.yaml"}
    files |= {names.get(name, f"keeps/{name}.py"): text for name, text in changed.items()}
    parts = {"filter": {"keeps": "keeps.plugin"}, "testing": {"any": "keeps.conformance"}}
    Distribution("keeps", files, parts, requires=["lmgraft<9"]).unpack(tmp_path)
    forget(tmp_path)
    (suite,) = running.suites_for(rows()[0], running.suites_of("keeps"))
    return {result.check: result for result in running.run(suite) if result.state == "failed"}


@pytest.mark.parametrize(
    ("changed", "check", "words"),
    [
        ({"part": FILTER.replace("judge", "jugde")}, "test_follows_the_protocol", ["rename jugde to judge"]),
        ({"part": FILTER.replace("self, batch", "self")}, "test_follows_the_protocol", ["judge()", "as core calls it"]),
        ({"part": FILTER.replace("class Keeps", "class Kepes")}, "test_follows_the_protocol", ["did you mean Kepes?"]),
        ({"part": FILTER.replace("return [KEEP", "yield [KEEP")}, "test_order_and_length", ["a generator for"]),
        ({"part": FILTER.replace("pass", "raise SystemExit(3)")}, "test_follows_the_protocol", ["SystemExit"]),
        ({"plugin": LIGHT.replace("BODY", "return None")}, "test_defaults_compose", ["returns None", "yield"]),
        ({"plugin": "    print('hello')\n" + LIGHT.replace("BODY", "yield from ()")}, "test_light_import", ["'hello'"]),
        ({"plugin": LIGHT.replace("BODY", "yield from ()").replace("return [C", "return (C").replace(",))]", ",)))")},
         "test_entry_point", ["returned a Component, not a list"]),
        ({"variant": "    size: 2\n"}, "test_variants_in_the_wheel", ["no variant", "_here_"]),
        ({"variant": FEW.replace("keeps:\n      size", "size")}, "test_variants_in_the_wheel", ["stands beside it"]),
        ({"conformance": SUITES.replace('settings = {"size": 7}', 'setings = {"size": 7}').replace("TestKeeps", "Base")
          .replace("TestMisspelt", "Other")}, "", []),
    ],
)  # fmt: skip
def test_a_newcomers_mistake_is_named_once_and_with_its_remedy(
    install: Any, tmp_path: Path, changed: dict[str, str], check: str, words: list[str]
) -> None:
    if not check:
        install(changed["conformance"])
        own = [suite for suite in running.suites_of("keeps") if suite.__name__ == "TestManyKept"]
        first, *_ = running.run(own[0])
        assert "TestManyKept.setings means nothing" in first.fact
        assert first.remedy == "did you mean settings?"
        return
    found = failures(tmp_path, **changed)
    assert check in found, found
    told = found[check]
    assert all(word in f"{told.fact} {told.cause} {told.remedy}" for word in words), told
    if check in running.GATES:
        assert list(found) == [check]


def test_a_suite_that_names_no_component_fails(install: Any) -> None:
    install(SUITES.replace('component = "keps"', 'componet = "keeps"'))
    (suite,) = running.suites_of_nothing(rows(), running.suites_of("keeps"))
    first, *_ = running.run(suite)
    assert "TestMisspelt names no part" in first.fact
