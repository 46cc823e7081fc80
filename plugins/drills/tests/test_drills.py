"""Drills: the right answers are right, the wrong ones wrong and no easier to tell by their length."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from lmgraft.seams.data_source import Document
from lmgraft_drills.flaws import FLAWS
from lmgraft_drills.plugin import TASKS, DrillsConfig, Rows
from lmgraft_drills.source import Drills
from lmgraft_drills.tasks import MAKERS
from lmgraft_drills.words import WORDS


def rows(**settings: object) -> list[Document]:
    source = Drills(DrillsConfig(**settings))  # type: ignore[arg-type]
    return [document for unit in source.units() for document in source.read(unit, 0)]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _words(question: str) -> list[str]:
    return question.rstrip(".").split(": ")[1].split()


#: What a question asks, worked out from its words alone.
SOLVED: dict[str, Callable[[str], str]] = {
    "add": lambda q: str(sum(_numbers(q))),
    "contains": lambda q: "Yes" if re.search(r"letter (\w)\b", q)[1] in re.search(r"(?:Does|in) (\w+)", q)[1] else "No",  # type: ignore[index]
    "copy": lambda q: " ".join(_words(q)),
    "element": lambda q: str(_numbers(q)[_numbers(q)[3]]),
    "last_letter": lambda q: re.search(r"\w*_\w*(\w)", q)[1],  # type: ignore[index]
    "larger": lambda q: str((max if "larger" in q else min)(_numbers(q))),
    "maximum": lambda q: str((max if "max" in q else min)(_numbers(q))),
    "reverse": lambda q: " ".join(reversed(_words(q))),
    "series": lambda q: str(2 * _numbers(q)[3] - _numbers(q)[2]),
    "sort": lambda q: " ".join(map(str, sorted(_numbers(q)))),
    "spell": lambda q: "-".join(re.search(r"name (\w+)", q)[1]),  # type: ignore[index]
}


def solution(task: str, answer: str) -> str:
    """The part of an answer that answers."""
    if task == "contains":
        return answer.partition(",")[0]
    return answer.rstrip(".") if task in ("copy", "reverse", "sort", "spell") else answer.rstrip(".").split()[-1]


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_are_right_and_wrong_ones_wrong(task: str) -> None:
    for number in range(500):
        drill = MAKERS[task](Random(number))
        expected = SOLVED[task](drill.question)
        assert solution(task, drill.right) == expected, drill
        assert solution(task, drill.wrong) != expected, drill


@pytest.mark.parametrize("task", [task for task in TASKS if task != "contains"])
def test_both_answers_have_one_length(task: str) -> None:
    drills = [MAKERS[task](Random(number)) for number in range(500)]
    assert all(len(drill.right) == len(drill.wrong) for drill in drills)


def test_length_does_not_tell_the_right_answer() -> None:
    pairs = rows(rows=Rows.pairs, count=4000)
    longer = sum(len(p.chosen or "") > len(p.rejected or "") for p in pairs)
    shorter = sum(len(p.chosen or "") < len(p.rejected or "") for p in pairs)
    assert longer + shorter > 0
    assert 0.45 < (longer + (len(pairs) - longer - shorter) / 2) / len(pairs) < 0.55


def test_the_tasks_of_the_setting_are_those_there_are() -> None:
    assert list(MAKERS) == list(TASKS)


def test_tasks_are_drawn_evenly_and_only_those_asked_for() -> None:
    counted = Counter(row.meta["task"] for row in rows(count=1000, tasks=["add", "sort"]))
    assert set(counted) == {"add", "sort"}
    assert abs(counted["add"] - 500) < 80


def test_reading_resumes_at_any_row() -> None:
    source = Drills(DrillsConfig(count=1203, flawed=0.3))
    units = source.units()
    assert [unit.end - unit.start for unit in units if unit.end] == [500, 500, 203]
    for unit in units:
        whole = list(source.read(unit, 0))
        assert list(source.read(unit, 199)) == whole[199:]


def test_rows_depend_on_the_seed_alone() -> None:
    code = (
        "from lmgraft_drills.plugin import DrillsConfig; from lmgraft_drills.source import Drills\n"
        "s = Drills(DrillsConfig(count=50, seed=3)); print([d for u in s.units() for d in s.read(u, 0)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout
        for salt in ("1", "2")
    }
    assert len(said) == 1
    assert [row.messages for row in rows(count=50, seed=3)] != [row.messages for row in rows(count=50, seed=4)]


def test_units_are_pinned_by_what_makes_them() -> None:
    digests = {
        Drills(config).units()[0].digest
        for config in (DrillsConfig(), DrillsConfig(seed=1), DrillsConfig(flawed=0.1), DrillsConfig(tasks=["add"]))
    }
    assert len(digests) == 4


def test_chats_and_pairs_share_no_problem() -> None:
    chats = {row.group for row in rows(count=3000)}
    assert not chats & {row.group for row in rows(rows=Rows.pairs, count=3000, seed=1)}


def test_wordings_of_one_problem_are_one_group() -> None:
    wordings: dict[str, set[str]] = {}
    for row in rows(count=3000, tasks=["series"]):
        wordings.setdefault(row.group, set()).add(row.messages[0]["content"])  # type: ignore[index]
    assert max(map(len, wordings.values())) > 1


def test_flaws_are_as_many_as_asked_for() -> None:
    clean = rows(count=1000)
    flawed = rows(count=1000, flawed=0.4)
    assert [row.messages[0] for row in clean] == [row.messages[0] for row in flawed]  # type: ignore[index]
    changed = sum(a.messages != b.messages or a.meta != b.meta for a, b in zip(clean, flawed, strict=True))
    assert 330 < changed < 470
    assert len({flaw("The sum is 4.", 33) for flaw in FLAWS}) == len(FLAWS)


def test_no_word_stands_twice() -> None:
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"count": 0}, "count is 0"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": ["sums"]}, "'sums'"),
        ({"flawed": 1.5}, "flawed is 1.5"),
    ],
)
def test_settings_that_make_no_rows_are_named(settings: dict[str, object], said: str) -> None:
    assert any(said in str(problem) for problem in DrillsConfig(**settings).check())  # type: ignore[arg-type]


def test_what_rows_hold_is_promised() -> None:
    assert DrillsConfig().provides() == {"columns:messages"}
    pair = rows(rows=Rows.pairs, count=1)[0]
    assert all(f"columns:{name}" in DrillsConfig(rows=Rows.pairs).provides() for name in ("prompt", "chosen"))
    assert pair.messages is None
    assert pair.prompt
    assert pair.chosen != pair.rejected
