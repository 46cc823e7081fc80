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
