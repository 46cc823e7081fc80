"""What cannot be read stops the corpus stage in three lines, or is counted and set down: never passed over unseen."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from corpus_context import made, ready, stage  # noqa: E402
from corpus_parts import LinesConfig, Plain, ShortConfig  # noqa: E402
from lmgraft.artifacts import Artifact, corpus  # noqa: E402
from lmgraft.component import Component  # noqa: E402
from lmgraft.errors import Problem, Stopped, UserError  # noqa: E402
from lmgraft.seams.data_source import Unreachable, Unreadable  # noqa: E402
from lmgraft.stages import _corpus_damage, _corpus_jobs, _corpus_units  # noqa: E402
from lmgraft.stages import corpus as corpus_stage  # noqa: E402
from lmgraft.stages._corpus_typed import typed  # noqa: E402
from lmgraft.stages.plugin import Corrupt  # noqa: E402

FILTERS = {"short": ShortConfig(part="short", least=3), "twins": Plain()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine files; lines that are damaged in most, one file cut short, one broken without a reason of its own."""
    chance = random.Random(5)
    root = tmp_path / "text"
    root.mkdir()
    for number in range(9):
        lines = [f"text {number} {line}" for line in range(40)]
        for _ in range(max(0, number - 1)):
            lines.insert(chance.randrange(len(lines)), f"DAMAGED {chance.choice(['bad_json', 'too_long'])}")
        if number in (4, 6):
            lines[30] = {4: "CUT", 6: "BROKEN"}[number]
        (root / f"{number}.txt").write_text("\n".join(lines))
    return root


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 900)
    monkeypatch.setattr(_corpus_jobs, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)


def config(folder: Path, **settings: Any) -> Any:
    return stage({"text": LinesConfig(part="lines", path=str(folder))}, FILTERS, **settings)


def quarantined(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]


def expected(folder: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    """The ids that can be read; (unit, reason, lost) of what cannot, by a plain reading of the files."""
    ids, damaged = [], []
    ends = {"CUT": "truncated", "BROKEN": "unreadable"}
    for path in sorted(folder.iterdir()):
        for number, line in enumerate(path.read_text().split("\n")):
            if line in ends:
                damaged.append((path.name, ends[line], "rest of the unit"))
                break
            if line.startswith("DAMAGED "):
                damaged.append((path.name, line[8:], "row"))
            else:
                ids.append(f"text/{path.name}:{number}")
    return ids, damaged


def test_all_that_is_damaged_is_counted_and_set_down(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    one, context = ready(tmp_path / "a", config(folder, corrupt=Corrupt.quarantine))
    one.run(context)
    ids, damaged = expected(folder)
    assert [document.id for document in corpus.documents(context.out)] == ids
    rows = quarantined(context.out)
    assert [(row["unit"], row["reason"], row["lost"]) for row in rows] == damaged
    assert rows[0].keys() == {"source", "unit", "reason", "fact", "cause", "remedy", "bytes", "lost"}
    own = corpus.funnel(context.out)["sources"]["text"]
    assert own["damaged"] == Counter(reason for _, reason, _ in damaged)
    assert own["damaged_bytes"] == sum(row["bytes"] for row in rows) > 0
    assert own["cut_short"] == 2
    assert [(row["unit"], row["reason"]) for row in own["damaged_sample"]] == [row[:2] for row in damaged[:5]]
    assert own["read"]["documents"] == len(ids)
    assert any("warning" in note and "bad_json" in note for note in context.notes)
    told = dict(one.summary(Artifact("corpus", context.out, "")))
    assert "1 truncated" in told["damaged in text"]
    assert "the rest of 2" in told["damaged in text"]
    assert list(corpus.verify(context.out)) == []


def test_no_path_of_this_machine_is_set_down(tmp_path: Path, folder: Path) -> None:
    out = made(tmp_path / "a", config(folder, corrupt=Corrupt.quarantine))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert str(tmp_path).encode() not in before["quarantine.jsonl"] + before["funnel.json"]
    assert quarantined(out)[0]["fact"].startswith("2.txt, line ")
    moved = folder.rename(tmp_path / "moved")
    out = made(tmp_path / "b", config(moved, corrupt=Corrupt.quarantine))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["text", "of_mine"])
def test_what_is_out_of_reach_is_no_damage(tmp_path: Path, folder: Path, name: str) -> None:
    """Whatever ``corrupt`` says: a corpus without it would be published, and found again in the store."""
    (folder / "5.txt").write_text("text 1\nGONE")
    sources = {name: LinesConfig(part="lines", path=str(folder))}
    with pytest.raises(Unreachable, match=r"5\.txt cannot be reached"):
        made(tmp_path / "a", stage(sources, FILTERS, corrupt=Corrupt.quarantine))


def test_without_damage_there_is_no_quarantine(tmp_path: Path, folder: Path) -> None:
    for path in list(folder.iterdir())[1:]:
        path.write_text("a text")
    next(iter(folder.iterdir())).write_text("another text")
    out = made(tmp_path / "a", config(folder, corrupt=Corrupt.quarantine))
    assert not (out / "quarantine.jsonl").exists()
    own = corpus.funnel(out)["sources"]["text"]
    assert (own["damaged"], own["damaged_bytes"], own["cut_short"], own["damaged_sample"]) == ({}, 0, 0, [])


def test_stop_is_the_default_and_names_the_first(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    first = next(line for line in (folder / "2.txt").read_text().split("\n") if line.startswith("DAMAGED"))
    for workers in (1, 2):
        one, context = ready(tmp_path / str(workers), config(folder, workers=workers))
        with pytest.raises(UserError, match=first[8:]) as error:
            one.run(context)
        assert len(error.value.render().splitlines()) == 3
        assert f"{folder}/2.txt, line " in error.value.render()
    assert list((tmp_path / "1" / "work" / "round-0" / "parts").glob("*.json")), "finished parts are kept"


@pytest.mark.parametrize("line", ["DAMAGED bad_json", "CUT"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_says_how_to_go_on_as_it_is_typed(tmp_path: Path, small_tasks: None, line: str, workers: int) -> None:
    for number in range(3):
        root = tmp_path / "text"
        root.mkdir(exist_ok=True)
        (root / f"{number}.txt").write_text(line)
    with pytest.raises(UserError) as error:
        made(tmp_path / "a", config(root, workers=workers))
    told = error.value.render()
    assert told.endswith("mend it; or let the stage count what is broken: corpus.corrupt=quarantine")
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize("place", ["sources.books", "sources.lines"])
def test_settings_in_remedies_are_whole_keys(place: str) -> None:
    part = Component(name="lines", target="corpus_parts:Lines", config=LinesConfig, summary="Lines.")
    parts = {place: (part, LinesConfig())}
    remedy = f"set {place}.path; lines.txt and OTHER.{place}.path are none; corrupt=quarantine"
    with pytest.raises(Unreadable) as error, typed("mine", parts):
        raise Unreadable("truncated", Problem(f"{place}: x/{place}: is broken", "why", remedy), 7)
    (problem,) = error.value.problems
    assert problem.fact == f"mine.{place}: x/{place}: is broken"
    assert problem.remedy == (
        f"set mine.{place}.path; lines.txt and OTHER.{place}.path are none; mine.corrupt=quarantine"
    )
    assert (error.value.reason, error.value.bytes) == ("truncated", 7)
    with pytest.raises(UserError, match=rf"raise mine\.{place}\.path") as error, typed("mine", parts):
        raise UserError(Problem("lines: x", "why", f"raise {place if place != 'sources.lines' else 'lines'}.path"))


def test_workers_change_no_byte(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    found = []
    for workers in (1, 2):
        out = made(tmp_path / str(workers), config(folder, workers=workers, corrupt=Corrupt.quarantine))
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert found[0] == found[1]
    assert found[0]["quarantine.jsonl"]


def test_stopped_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    setting = config(folder, corrupt=Corrupt.quarantine)
    whole = {path.name: path.read_bytes() for path in made(tmp_path / "whole", setting).iterdir()}
    chance, stops = random.Random(1), 0
    while True:
        one, context = ready(tmp_path / "parts", setting)
        calls = iter(range(chance.randrange(2, 25)))

        def stop(calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise Stopped

        context.stop = stop
        try:
            one.run(context)
            break
        except Stopped:
            stops += 1
    assert stops > 3
    assert {path.name: path.read_bytes() for path in context.out.iterdir()} == whole


SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from corpus_context import made, stage
from corpus_parts import LinesConfig, Plain, ShortConfig
from lmgraft.stages import _corpus_damage, _corpus_units, corpus
from lmgraft.stages.plugin import Corrupt
_corpus_units.TASK_BYTES, corpus.SMALL_BYTES = 900, 0
left, write = int(sys.argv[4]), _corpus_damage.write_atomically
def deadly(path, text):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, text)
_corpus_damage.write_atomically = deadly
filters = {"short": ShortConfig(part="short", least=3), "twins": Plain()}
source = LinesConfig(part="lines", path=sys.argv[3])
made(Path(sys.argv[2]), stage({"text": source}, filters, corrupt=Corrupt.quarantine))
"""


def test_killed_while_it_sets_damage_down_it_goes_on_to_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    whole = made(tmp_path / "whole", config(folder, corrupt=Corrupt.quarantine))
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(HERE), str(tmp_path / "killed"), str(folder)]
    codes = [subprocess.run([*command, str(left)], check=False).returncode for left in (2, 3, 100)]
    assert codes == [-9, -9, 0]
    found = {path.name: path.read_bytes() for path in (tmp_path / "killed" / "out").iterdir()}
    assert found == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_so_many_are_set_down_and_all_are_counted(
    tmp_path: Path, folder: Path, small_tasks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_corpus_damage, "ROWS", 10)
    out = made(tmp_path / "a", config(folder, corrupt=Corrupt.quarantine))
    _, damaged = expected(folder)
    assert [(row["unit"], row["reason"], row["lost"]) for row in quarantined(out)] == damaged[:10]
    assert sum(corpus.funnel(out)["sources"]["text"]["damaged"].values()) == len(damaged) > 20


def test_nothing_but_damage_is_told(tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    (root / "a.txt").write_text("DAMAGED bad_json\nDAMAGED bad_json\nCUT")
    with pytest.raises(UserError, match="text has 2 bad_json, 1 truncated") as error:
        made(tmp_path / "a", config(root, corrupt=Corrupt.quarantine))
    assert len(error.value.render().splitlines()) == 3


def test_an_unreadable_unit_crosses_processes() -> None:
    error = Unreadable("truncated", Problem("a", "b", "c"), 7)
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.problems, again.bytes) == ("truncated", error.problems, 7)


def test_filters_that_leave_nothing_do_not_hide_what_was_damaged(tmp_path: Path, folder: Path) -> None:
    sources = {"text": LinesConfig(part="lines", path=str(folder))}
    filters = {"short": ShortConfig(part="short", least=10_000)}
    with pytest.raises(UserError) as caught:
        made(tmp_path / "a", stage(sources, filters, corrupt=Corrupt.quarantine))
    (problem,) = caught.value.problems
    assert problem.fact.endswith("the filters dropped every document")
    assert "not all could be read: text has" in problem.cause
