"""``lmgraft plugins``: what each of its commands prints, for good parts and for bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from lmgraft.cli import main
from lmgraft.cli._docs import field_docs
from lmgraft.stages.plugin import CorpusStage
from lmgraft.table import rows
from third_party import Distribution, component, module

SETTINGS = '''
    from enum import Enum

    class Mode(Enum):
        fast = "fast"
        exact = "exact"

    @dataclass
    class Base(ComponentConfig):
        seed: int = 0
        """Said by the base."""

    @dataclass
    class Full(Base):
        path: str = "???"
        """Where the texts are,
        over two lines."""
        mode: Mode = Mode.exact
        limits: list[int] = field(default_factory=lambda: [1, 2])
        """Two of them."""
        workers: int = execution(4)
        """Processes."""
'''


def full(name: str = "full-parts", **more: object) -> Distribution:
    source = module("filter", component("full", "full_parts.impl:Full", config="Full", **more), before=SETTINGS)
    files = {
        "full_parts/__init__.py": "",
        "full_parts/plugin.py": source,
        "full_parts/impl.py": "class Full: pass",
    }
    return Distribution(name, files, {"filter": {"full": "full_parts.plugin"}}, version="0.7")


Call = Callable[..., tuple[str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["plugins", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == code, out + err
        return out, err

    return call


def test_the_list_is_the_table_and_the_default(site, call):
    site.install(full())
    out, _ = call("list")
    assert call()[0] == out
    lines = [line.split() for line in out.splitlines()]
    assert ["filter", "full", "full-parts", "0.7", "full_parts.plugin", "unchecked"] in lines
    assert out.splitlines()[0].strip() == f"{len(rows())} parts"
    assert len([line for line in lines if line and line[-1] == "unchecked"]) == len(rows())


def test_the_list_of_one_seam_and_as_json(site, call):
    site.install(full())
    found = json.loads(call("list", "--seam", "filter", "--json")[0])
    assert {row["seam"] for row in found} == {"filter"}
    (own,) = [row for row in found if row["name"] == "full"]
    assert own == {
        "seam": "filter", "name": "full", "distribution": "full-parts", "version": "0.7",
        "module": "full_parts.plugin", "state": "unchecked", "reason": "", "editable": False, "remedy": "",
    }  # fmt: skip
    assert json.loads(call("list", "--seam", "merge", "--json")[0]) == [
        row for row in json.loads(call("list", "--json")[0]) if row["seam"] == "merge"
    ]


def test_reasons_have_a_column_where_there_are_any(site, call):
    site.install(Distribution("gone", {}, {"filter": {"gone": "gone_package.plugin"}}))
    out, _ = call("list", "--seam", "filter")
    assert "reason" in out
    assert "its package gone_package is not on the import path" in out


def test_a_seam_that_is_not_there(call):
    err = call("list", "--seam", "filtre", code=2)[1]
    assert "there is no seam 'filtre'" in err
    assert "try: did you mean filter?" in err


def test_show_says_everything_of_a_part(site, call):
    site.install(full(requires=("numpy>=1",), revision=3))
    out, _ = call("show", "full")
    head, _, table = out.partition("\n\n")
    assert head.splitlines() == [
        "filter full: The part full",
        "  from      full-parts 0.7, full_parts.plugin",
        "  target    full_parts.impl:Full",
        "  revision  3, api 1",
        "  requires  numpy>=1",
        "  use it    filter@STAGE.SLOT=[full]",
    ]
    assert "fast | exact" in table  # what may be typed
    table = table.replace("fast | exact", "fast|exact  ")
    settings = [line.strip().split(maxsplit=4) for line in table.splitlines() if line.startswith(" ")][2:]
    settings = [line for line in settings if len(line) > 1]
    assert settings[0] == ["seed", "int", "0", "result", "Said by the base."]
    assert settings[1] == ["path", "str", "required", "result", "Where the texts are, over two lines."]
    assert settings[2][:4] == ["mode", "fast|exact", "exact", "result"]
    assert settings[3][0] == "limits"
    assert "[1, 2]" in table
    assert settings[4] == ["workers", "int", "4", "execution", "Processes."]
    assert not [line for line in settings if line[0] == "part"]


def test_show_of_a_name_at_two_seams_shows_both_or_the_one_that_is_asked_for(call):
    out, _ = call("show", "tokenizer")
    assert out.startswith("stage tokenizer: ")
    assert "use it    stage@STAGE=tokenizer" in out
    assert "corpus" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "fulll"], ["there is no part named 'fulll'", "did you mean full?"]),
        (["why", "full-partz"], ["full-partz brings no part", "did you mean full-parts?"]),
    ],
)
def test_names_that_are_not_there(site, call, arguments, words):
    site.install(full())
    err = call(*arguments, code=2)[1]
    assert all(word in err for word in words), err


def test_show_of_a_broken_part_says_why_in_three_lines(site, call):
    site.install(Distribution("torn", {"torn/__init__.py": "1 / 0"}, {"filter": {"torn": "torn.plugin"}}))
    fact, cause, remedy = call("show", "torn", code=2)[1].splitlines()
    assert fact == "filter 'torn' of torn 1.0 (torn.plugin) cannot be used"
    assert (
        cause
        == "  because: importing torn.plugin raised ZeroDivisionError: division by zero (torn/__init__.py, line 1)"
    )
    assert remedy.startswith("  try: pip install --upgrade torn")


@pytest.mark.parametrize("spelling", ["full-parts", "Full_Parts", "full.parts"])
def test_why_of_a_good_distribution_in_any_spelling(site, call, spelling):
    site.install(full())
    assert call("why", spelling)[0].splitlines() == ["filter full: ok", "full-parts 0.7: 1 part, 0 not usable"]


def test_why_tries_every_part_and_a_bad_one_hides_no_good_one(site, call):
    two = Distribution(
        "two-modules",
        {
            "two_modules/__init__.py": "",
            "two_modules/good.py": module("filter", component("fine", "two_modules.impl:Fine")),
            "two_modules/bad.py": "raise SystemExit('no')",
            "two_modules/impl.py": "class Fine: pass",
        },
        {"filter": {"fine": "two_modules.good", "spoilt": "two_modules.bad"}},
    )
    site.install(two)
    assert call("why", "two-modules")[0].splitlines() == [
        "filter fine: ok",
        "filter spoilt: broken",
        "  because: importing two_modules.bad raised SystemExit: no (two_modules/bad.py, line 1)",
        "  try: pip install --upgrade two-modules; details: lmgraft plugins why two-modules",
        "two-modules 1.0: 2 parts, 1 not usable",
    ]


def test_field_docs_read_the_strings_under_the_fields():
    found = field_docs(CorpusStage)
    assert found["shard_bytes"] == "Text bytes of a Parquet shard."
    assert found["part"].startswith("The component's name")
    assert "name" not in found
    assert field_docs(int) == {}
