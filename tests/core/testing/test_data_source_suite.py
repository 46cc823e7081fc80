"""The suite of data sources sees what is wrong, and says so by the right check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import DataSourceSuite, Nonconforming, NotApplicable
from lmgraft.testing.running import run
from third_party import Distribution, component, module

CONFIG = '''
@dataclass
class Rows(Config):
    path: str = ""
    """The folder."""
    lines: int = 5
    """In a unit."""

    def provides(self):
        return frozenset({"columns:text"})

    def ready(self):
        return bool(self.path)
'''

SOURCE = """\
import json
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document, Unit


class Rows:
    def __init__(self, config):
        self.config = config

    def units(self):
        found = []
        for file in sorted(Path(self.config.path).rglob("*.rows")):
            name = file.relative_to(self.config.path).as_posix()
            count = len(self.rows(file))
            for start in range(0, count, self.config.lines):
                end = min(start + self.config.lines, count)
                found.append(Unit(f"{name}@{start}", str(file), None, start, end))
        return found

    def rows(self, file):
        return Path(file).read_bytes().splitlines()

    def read(self, unit, offset):
        file = Path(unit.path)
        rows = self.rows(file)
        for number in range(unit.start + offset, unit.end):
            try:
                text = json.loads(rows[number])
            except ValueError as error:
                raise UserError(Problem(f"{file}, line {number + 1}", str(error), "mend it")) from error
            name = file.relative_to(self.config.path).as_posix()
            yield Document(f"{name}:{number}", text=text, group=name, meta={"line": number})
"""

DISJOINT = "test_units_are_disjoint"
LOST = "test_nothing_is_lost"
RESUME = "test_offsets_resume"
SAME = "test_units_are_deterministic"
PINNED = "test_units_are_pinned"
TRAVEL = "test_units_travel"
SOUND = "test_documents_are_sound"
TOLD = "test_bad_input_is_told"

TEXT = "text = json.loads(rows[number])"
YIELD = 'yield Document(f"{name}:{number}", text=text, group=name, meta={"line": number})'
UNIT = 'Unit(f"{name}@{start}", str(file), None, start, end)'
FILES = 'sorted(Path(self.config.path).rglob("*.rows"))'
RAISE = 'raise UserError(Problem(f"{file}, line {number + 1}", str(error), "mend it")) from error'

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("end = min(start + self.config.lines, count)", "end = min(start + self.config.lines + 1, count)", DISJOINT,
     "reads the document"),
    (UNIT, UNIT.replace("{start}", "0"), DISJOINT, "lists the unit 'a.rows@0' more than once"),
    ("count = len(self.rows(file))", "count = len(self.rows(file)) - 1", LOST, "3 of 24 texts are missing"),
    (TEXT, TEXT + ".strip()", LOST, "others came"),
    ('rglob("*.rows")', 'glob("*.rows")', LOST, "12 of 24"),
    ("range(unit.start + offset, unit.end)", "range(unit.start + offset + bool(offset), unit.end)", RESUME, "offset 1"),
    ("range(unit.start + offset, unit.end)", "range(unit.start + (offset if offset < 5 else 0), unit.end)", RESUME,
     "offset 5"),
    (FILES, FILES.removeprefix("sorted"), SAME, "listed in another order"),
    # What only this process has turns the order round. (hash() would do so most of the time: three names, six orders.)
    (FILES, FILES[:-1] + ', reverse="pytest" in __import__("sys").modules)', SAME, "in another process"),
    (UNIT, UNIT.replace("str(file)", "None"), PINNED, "nothing pins"),
    ('Unit(f"{name}@{start}"', 'Unit(f"{file}@{start}"', PINNED, "a place of this machine"),
    (UNIT, UNIT.replace("{name}", "{len(str(file))}-{file.stem}"), PINNED, "when its folder is moved"),
    (UNIT, UNIT.replace("str(file), None", "None, str(file.stat().st_size)"), PINNED, "does not see"),
    (UNIT, UNIT.replace("str(file)", "str(file.parent)"), PINNED, "that is no file"),
    (UNIT, "Kept(" + UNIT.removeprefix("Unit("), TRAVEL, "does not pickle"),
    (YIELD, YIELD.replace("text=text", "text=text, prompt=text"), SOUND, "neither a text nor a conversation"),
    (YIELD, YIELD.replace("text=text", 'messages=[{"role": "user", "content": text}]'), SOUND, "has no text"),
    (YIELD, YIELD.replace('"line": number', '"line": file'), SOUND, "meta is not JSON"),
    (YIELD, YIELD.replace('"line": number', 'number: "line"'), SOUND, "meta changes in JSON"),
    (YIELD, YIELD.replace("group=name", "group=number"), SOUND, "its group is a int"),
    (YIELD, YIELD.replace("text=text", "text=text + chr(0xD83D)"), SOUND, "no valid Unicode"),
    ("except ValueError as error", "except KeyError as error", TOLD, "meets damaged input with JSONDecodeError"),
    (RAISE, "continue", TOLD, "without a word"),
    (RAISE, RAISE.replace("{file}, ", ""), TOLD, "does not say which file"),
]  # fmt: skip
MORE = """

class Kept(Unit):
    def __reduce__(self):
        raise TypeError("it holds an open file")
"""


class Writing(DataSourceSuite):
    component = "rows"

    def write(self, folder, texts):
        for name, own in (("a.rows", texts[:12]), ("deep/b.rows", texts[12:20]), ("deep/c.rows", texts[20:])):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("".join(json.dumps(text) + "\n" for text in own))
        return {"path": str(folder)}

    def break_input(self, folder):
        (folder / "broken.rows").write_text('"whole"\n"half\n')
        return {"path": str(folder)}


@contextmanager
def suite(site, source: str = SOURCE, config: str = CONFIG, base: type = Writing, **more: object) -> Iterator[Writing]:
    install(site, source, config)
    found = type("TestRows", (base,), {"component": "rows", **more})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


def install(site, source: str = SOURCE, config: str = CONFIG) -> None:
    files = {
        "source_of_rows/__init__.py": "",
        "source_of_rows/plugin.py": module(
            "data_source", component("rows", "source_of_rows.part:Rows", "Rows"), before=config
        ),
        "source_of_rows/part.py": source + MORE,
    }
    site.install(Distribution("source-of-rows", files, {"data_source": {"rows": "source_of_rows.plugin"}}))


def test_a_sound_source_passes_every_check(site):
    install(site)
    results = {result.check: result for result in run(Writing)}
    failed = {check: result.fact for check, result in results.items() if result.state == "failed"}
    assert list(failed) == ["test_version_cap"]  # the helpers that write wheels say nothing of versions
    assert all(results[check].state == "passed" for _, _, check, _ in WRONG)


@pytest.mark.parametrize(("right", "wrong", "check", "word"), WRONG, ids=[word for *_, word in WRONG])
def test_a_wrong_source_is_seen(site, right, wrong, check, word):
    assert SOURCE.count(right) == 1
    source = SOURCE.replace(right, wrong)
    if "st_size" in wrong:
        source = source.replace("Path(unit.path)", 'Path(self.config.path, unit.id.rpartition("@")[0])')
    with suite(site, source) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_a_text_that_comes_twice_under_two_names_is_seen(site):
    twice = SOURCE.replace("return found", "return found + found[:1]").replace(
        UNIT, UNIT.replace("{start}", "{start}-{len(found)}")
    )
    again = twice.replace("return found + found[:1]", 'return [*found, Unit("again", *self.first(found))]') + (
        "\n    def first(self, found):\n        return found[0].path, None, found[0].start, found[0].end\n"
    )
    again = again.replace('Document(f"{name}:{number}"', 'Document(f"{unit.id}:{number}"')
    with suite(site, again) as one, pytest.raises(Nonconforming, match="one text in two documents"):
        one.test_units_are_disjoint()


def test_state_between_units_is_seen(site):
    kept = SOURCE.replace("        rows = self.rows(file)\n        for", """\
        rows = getattr(self, "last", None) or self.rows(file)
        self.last = rows
        for""")  # fmt: skip
    with suite(site, kept) as one, pytest.raises(Nonconforming, match="others came"):
        one.test_nothing_is_lost()


DAMAGED = (
    SOURCE.replace("import Document, Unit", "import Damaged, Document, Unit")
    .replace(
        RAISE,
        """\
problem = Problem(f"{file}, line {number + 1}", str(error), "mend it")
                yield Damaged("bad_json", problem, len(rows[number]))
                continue""",
    )
    .replace(
        "        for number in range(unit.start + offset, unit.end):",
        """\
        left = offset
        for number in range(unit.start, unit.end):
            if left and rows[number].endswith(b'"'):
                left -= 1
                continue
            if left:
                continue""",
    )
)


class BreaksTheFirst(Writing):
    def break_input(self, folder):
        (folder / "broken.rows").write_text('"half\n"whole"\n"half\n"another"\n')
        return {"path": str(folder)}


def test_damage_may_be_yielded_and_reading_goes_on(site):
    with suite(site, DAMAGED, base=BreaksTheFirst) as one:
        one.test_bad_input_is_told()
        one.test_nothing_is_lost()


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ('"bad_json"', '"Bad JSON"', "gives damaged input the reason 'Bad JSON'"),
        ("len(rows[number])", "-1", "counts -1 bytes"),
        ('"bad_json", problem', '"bad_json", str(problem)', "tells damaged input by a str"),
        ('f"{file}, line {number + 1}"', '"a line"', "does not say which file"),
        ("if left and rows[number].endswith(b'\"'):", "if left:", "does not resume behind damaged input"),
    ],
)
def test_damage_that_is_told_wrongly_is_seen(site, right, wrong, word):
    assert DAMAGED.count(right) == 1
    with (
        suite(site, DAMAGED.replace(right, wrong), base=BreaksTheFirst) as one,
        pytest.raises(Nonconforming, match=word),
    ):
        one.test_bad_input_is_told()


def test_columns_must_be_promised(site):
    for promised, word in (("frozenset()", "promises no columns"), ('frozenset({"columns:texts"})', "columns texts")):
        config = CONFIG.replace('frozenset({"columns:text"})', promised)
        with suite(site, config=config) as one, pytest.raises(Nonconforming, match=word):
            one.test_documents_are_sound()


def test_a_source_without_a_suite_is_told_to_ship_one(site):
    with suite(site, base=DataSourceSuite) as one, pytest.raises(Nonconforming, match="ship a suite"):
        one.test_nothing_is_lost()
    with suite(site, base=DataSourceSuite) as one, pytest.raises(NotApplicable, match="nothing is lost"):
        one.test_equal_builds()


def test_pairs_and_chats_are_documents_too(site):
    chats = SOURCE.replace("text=text", 'messages=[{"role": "user", "content": text}]')
    pairs = SOURCE.replace("text=text", 'messages=[{"role": "user", "content": text}], chosen="a", rejected="b"')
    for source, columns in ((chats, '"columns:messages"'), (pairs, '"columns:prompt", "columns:chosen"')):
        config = CONFIG.replace('"columns:text"', columns)
        with suite(site, source, config) as one:
            one.test_documents_are_sound()
    with suite(site, chats, CONFIG.replace("columns:text", "columns:messages")) as one:
        one.test_nothing_is_lost()


class Forgetful(Writing):
    def write(self, folder, texts):
        super().write(folder, texts)


class Bare(Writing):
    def write(self, folder, texts):
        return str(super().write(folder, texts)["path"])


class Careless(Writing):
    def break_input(self, folder):
        super().break_input(folder)


class Listing(Writing):
    def break_input(self, folder):
        return [folder]


class OneText(Writing):
    def texts_for(self):
        return "one text"


class SameTexts(Writing):
    def texts_for(self):
        return ["one text", "one text"]


class Joining(Writing):
    def texts_of(self, document):
        return document.text


@pytest.mark.parametrize(
    ("base", "check", "words"),
    [
        (Forgetful, LOST, ["TestRows.write() writes a.rows", "returns no settings", 'return {"path": str(folder)}']),
        (Bare, LOST, ["TestRows.write() returns a str", "a mapping"]),
        (Careless, TOLD, ["TestRows.break_input() writes broken.rows and returns no settings", "return {"]),
        (Listing, TOLD, ["TestRows.break_input() returns a list"]),
        (OneText, LOST, ["TestRows.texts_for() returns a str", "a list of texts"]),
        (SameTexts, LOST, ["TestRows.texts_for() gives 'one text' twice"]),
        (Joining, LOST, ["TestRows.texts_of() returns a str"]),
    ],
)
def test_a_suite_that_is_wrong_itself_is_named(site, base, check, words):
    with suite(site, base=base) as one, pytest.raises(Nonconforming) as raised:
        getattr(one, check)()
    assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)


def test_a_forgetful_suite_is_told_once_and_first(site):
    install(site)
    results = {result.check: result for result in run(type("TestRows", (Forgetful,), {"component": "rows"}))}
    failed = [check for check, result in results.items() if result.state == "failed"]
    assert failed == ["test_defaults_compose"]
    assert "TestRows.write() writes" in results["test_defaults_compose"].fact
