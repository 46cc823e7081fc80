"""The corpus stage with real parts: what comes out, and that neither workers nor kills change a byte of it."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# Worker processes get this path by way of multiprocessing, so the parts must be found on it.
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from corpus_context import made, ready, stage  # noqa: E402
from corpus_jobs import sleep  # noqa: E402
from corpus_parts import KillerConfig, LearntConfig, LinesConfig, Plain, ShortConfig, SlowConfig  # noqa: E402
from lmgraft.artifacts import Artifact, corpus  # noqa: E402
from lmgraft.errors import Fault, Stopped, UserError  # noqa: E402
from lmgraft.stages import _corpus_jobs, _corpus_units  # noqa: E402
from lmgraft.stages import corpus as corpus_stage  # noqa: E402
from lmgraft.stages._corpus_crew import Crew, Workshop  # noqa: E402

ALL_FILTERS = {
    "short": ShortConfig(part="short"),
    "tidy": Plain(),
    "twins": Plain(),
    "again": ShortConfig(part="short", least=12),
    "last": Plain(part="twins"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve files of lines: some short, some to tidy, some twice."""
    chance = random.Random(3)
    words = ["OK", "eins", "#", "überall", "wörter", "lines", "of", "text", "第三"]
    root = tmp_path / "text"
    root.mkdir()
    for number in range(12):
        lines = [" ".join(chance.choices(words, k=chance.randrange(1, 6))) for _ in range(chance.randrange(20, 160))]
        (root / f"{number:02}.txt").write_text("\n".join(lines))
    return root


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts and batches from little text, and processes for them."""
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 4000)
    monkeypatch.setattr(_corpus_units, "TASKS", 4)
    monkeypatch.setattr(_corpus_jobs, "BATCH_DOCUMENTS", 16)
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)


def lines(folder: Path, **more: Any) -> LinesConfig:
    return LinesConfig(part="lines", path=str(folder), **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def expected(folder: Path) -> list[tuple[str, str]]:
    """What ALL_FILTERS leave, by a plain reading of what each says."""
    rows = []
    for path in sorted(folder.iterdir()):
        for number, line in enumerate(path.read_text().split("\n")):
            if len(line) >= 5:
                text = line.replace("OK", "ok") if "OK" in line else line.replace("#", "")
                rows.append((f"text/{path.name}:{number}", text))
    for least in (12, 0):
        seen: set[str] = set()
        kept = []
        for name, text in rows:
            if text not in seen:
                seen.add(text)
                kept.append((name, "one for eins" if "eins" in text else text))
        rows = [(name, text) for name, text in kept if len(text) >= least]
    return rows


def test_filters_apply_in_order_and_are_counted(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    out = made(tmp_path / "a", stage({"text": lines(folder)}, ALL_FILTERS))
    found = [(document.id, document.text) for document in corpus.documents(out)]
    assert found == expected(folder)
    told = corpus.funnel(out)
    total = sum(len(path.read_text().split("\n")) for path in folder.iterdir())
    assert told["sources"]["text"]["read"]["documents"] == told["filters"][0]["seen"] == total
    assert [row["name"] for row in told["filters"]] == list(ALL_FILTERS)
    for before, after in itertools.pairwise(told["filters"]):
        assert before["kept"] == after["seen"] == before["seen"] - sum(before["dropped"].values())
    assert told["filters"][-1]["kept"] == told["documents"]["train"] == len(found)
    assert told["bytes"]["train"] == sum(len(str(text).encode()) for _, text in found)
    assert told["characters"]["train"] == sum(len(str(text)) for _, text in found)
    short = told["filters"][0]
    assert set(short["dropped"]) == {"too_short"}
    assert [row["id"] for row in short["sample"]] == [
        f"text/{path.name}:{number}"
        for path in sorted(folder.iterdir())
        for number, line in enumerate(path.read_text().split("\n"))
        if len(line) < 5
    ][:3]
    assert told["filters"][1]["rewritten"] > 0
    assert told["filters"][2]["rewritten"] > 0
    assert list(corpus.verify(out)) == []


def test_workers_change_no_byte(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    log = tmp_path / "log"
    results = []
    for workers in (1, 2):
        source = lines(folder, log=str(log))
        config = stage({"text": source}, ALL_FILTERS, workers=workers, validation_bytes=600, shard_bytes=1024)
        results.append(contents(made(tmp_path / str(workers), config)))
        processes = {int(line.split()[0]) for line in log.read_text().splitlines()}
        assert (os.getpid() in processes) == (workers == 1)
        log.unlink()
    assert results[0] == results[1]
    assert len(results[0]) > 4


def test_stopped_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    log = tmp_path / "log"
    source = lines(folder, log=str(log))
    config = stage({"text": source}, ALL_FILTERS, validation_bytes=600, max_bytes=9000, shard_bytes=1024)
    whole = contents(made(tmp_path / "whole", config))
    log.write_text("")

    stops, chance = 0, random.Random(0)
    while True:
        one, context = ready(tmp_path / "parts", config)
        calls = iter(range(chance.randrange(2, 30)))

        def stop(calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise Stopped

        context.stop = stop
        try:
            one.run(context)
            break
        except Stopped:
            stops += 1
            assert stops < 300
    assert contents(context.out) == whole
    reads = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert len(reads) == 12
    # Only a task that was cut short is read again, and none once its part is there.
    assert max(reads.values()) < 6 < stops


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from corpus_context import made, stage
from corpus_parts import KillerConfig, LinesConfig, Plain
from lmgraft.errors import LmgraftError
from lmgraft.stages import _corpus_units, corpus
_corpus_units.TASK_BYTES, corpus.SMALL_BYTES = 1500, 0
root, folder, word = Path(sys.argv[2]), sys.argv[3], sys.argv[4]
filters = {"killer": KillerConfig(flag=str(root / "flag"), word=word), "twins": Plain()}
try:
    made(root, stage({"text": LinesConfig(part="lines", path=folder)}, filters, workers=int(sys.argv[5])))
except LmgraftError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_it_goes_on_to_the_same_bytes(tmp_path: Path, folder: Path, workers: int) -> None:
    """The script has no main guard, and workers must not run it again."""
    (folder / "09.txt").write_text("a line\nthe end of a process\nanother line")
    filters = {"killer": KillerConfig(flag=str(tmp_path), word=""), "twins": Plain()}
    whole = contents(made(tmp_path / "whole", stage({"text": lines(folder)}, filters)))
    root = tmp_path / "killed"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(HERE), str(root), str(folder), "the end of a process", str(workers)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    if workers == 1:
        assert killed.returncode == -9
    else:
        assert killed.returncode == 1
        assert "ended without a word" in killed.stderr
        assert "workers=1" in killed.stderr
        assert killed.stderr.count("Traceback") == 0
    subprocess.run(command, check=True)
    assert contents(root / "out") == whole


def test_a_signal_stops_it_and_the_rest_is_done_later(tmp_path: Path, folder: Path) -> None:
    """As the command line has it: a request to stop, exit code 75, and the same command goes on."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from corpus_context import ready, stage\n"
        "from corpus_parts import LinesConfig, SlowConfig\n"
        "from lmgraft.errors import LmgraftError\n"
        "from lmgraft.signals import StopRequest\n"
        "from lmgraft.stages import _corpus_units, corpus\n"
        "_corpus_units.TASK_BYTES, corpus.SMALL_BYTES = 1500, 0\n"
        "source = LinesConfig(part='lines', path=sys.argv[3], log=sys.argv[4])\n"
        "config = stage({'text': source}, {'slow': SlowConfig(seconds=float(sys.argv[5]))}, workers=2)\n"
        "one, context = ready(Path(sys.argv[2]), config)\n"
        "with StopRequest() as request:\n"
        "    context.stop = request.check\n"
        "    try:\n"
        "        one.run(context)\n"
        "    except LmgraftError as error:\n"
        "        sys.exit(error.exit_code)\n"
    )
    log = tmp_path / "log"
    command = [sys.executable, "-c", script, str(HERE), str(tmp_path / "a"), str(folder), str(log)]
    with subprocess.Popen([*command, "0.3"]) as process:
        deadline = time.monotonic() + 60
        while not log.exists() or len(log.read_text().splitlines()) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 75
    kept = {path.name for path in (tmp_path / "a" / "work" / "round-0" / "parts").glob("*.json")}
    assert kept
    subprocess.run([*command, "0"], check=True)
    reads = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert len(reads) == 12
    assert min(reads.values()) == 1  # what was kept is not read again
    filters = {"slow": SlowConfig(seconds=0)}
    assert contents(tmp_path / "a" / "out") == contents(made(tmp_path / "b", stage({"text": lines(folder)}, filters)))


def test_small_work_begins_here_and_is_handed_over_when_it_takes_long(tmp_path: Path) -> None:
    crew = Crew(Workshop(None, {}), {}, {}, 2, "corpus", patience=0.2)  # type: ignore[arg-type]
    with crew:
        assert set(crew.map(sleep, [0.0, 0.0, 0.0])) == {os.getpid()}
        found = list(crew.map(sleep, [0.25, 0.0, 0.0]))
        assert found[0] == os.getpid()
        assert os.getpid() not in found[1:]
        assert os.getpid() not in list(crew.map(sleep, [0.0, 0.0]))
        assert list(crew.map(sleep, [0.0])) == [os.getpid()]  # nobody to share it with


def test_a_crew_takes_tasks_as_they_are_wanted() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[float]:
        for number in range(100):
            taken.append(number)
            yield 0.0

    with Crew(Workshop(None, {}), {}, {}, 2, "corpus") as crew:  # type: ignore[arg-type]
        found = crew.map(sleep, tasks(), most=3)
        next(found)
        assert len(taken) <= 5


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from lmgraft.stages._corpus_crew import Crew, Workshop\n"
        "from corpus_jobs import sleep\n"
        "for pid in Crew(Workshop(None, {}), {}, {}, 2, 'corpus').map(sleep, [0, 0, 60, 60]): print(pid, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(HERE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()), int(process.stdout.readline())]
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/stat").exists() and _running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- groups -----------------------------------------------------------------------------------------------------------


def test_held_out_groups_are_whole_and_move_with_the_seed(tmp_path: Path, folder: Path) -> None:
    splits = []
    for seed in (1, 2, 3):
        out = made(tmp_path / str(seed), stage({"text": lines(folder)}, validation_bytes=2000), seed)
        train = {document.group for document in corpus.documents(out)}
        held = {document.group for document in corpus.documents(out, "validation")}
        told = corpus.funnel(out)
        assert not train & held
        assert len(train | held) == 12
        assert told["validation"] == {"groups": len(held), "wanted_bytes": 2000}
        assert 2000 <= told["bytes"]["validation"] < 4000
        assert list(corpus.verify(out)) == []
        splits.append(frozenset(held))
    assert len(set(splits)) > 1


def test_max_bytes_takes_whole_groups_and_a_larger_limit_takes_the_same_first(tmp_path: Path, folder: Path) -> None:
    everything = Counter(d.group for d in corpus.documents(made(tmp_path / "all", stage({"text": lines(folder)}))))
    taken: set[str] = set()
    for limit in (4000, 8000, 12000):
        out = made(tmp_path / str(limit), stage({"text": lines(folder)}, max_bytes=limit))
        groups = Counter(document.group for document in corpus.documents(out))
        told = corpus.funnel(out)
        assert all(everything[group] == number for group, number in groups.items())
        assert taken < set(groups)
        assert limit / 2 < told["bytes"]["train"] <= limit
        last = told["filters"][-1]
        assert last["dropped"] == {"max_bytes": sum(everything.values()) - sum(groups.values())}
        assert len(last["sample"]) == 3
        taken = set(groups)


def test_max_bytes_below_the_first_group_takes_that_one(tmp_path: Path, folder: Path) -> None:
    one, context = ready(tmp_path / "a", stage({"text": lines(folder)}, max_bytes=1))
    one.run(context)
    assert len({document.group for document in corpus.documents(context.out)}) == 1
    assert "above max_bytes=1" in context.notes[0]


def test_one_large_group_does_not_become_the_validation_set(tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    for number in range(5):
        (root / f"{number:02}.txt").write_text("x" * (50_000 if number == 3 else 300))
    for seed in range(5):
        out = made(tmp_path / str(seed), stage({"text": lines(root)}, validation_bytes=500), seed)
        assert corpus.funnel(out)["bytes"]["validation"] == 600
    # More than the small ones have together: the large one is then held out, by itself.
    out = made(tmp_path / "large", stage({"text": lines(root)}, validation_bytes=1300))
    assert corpus.funnel(out)["bytes"]["validation"] == 50_000


@pytest.mark.parametrize(("files", "wanted"), [(1, "one document"), (3, "less than twice")])
def test_nothing_to_hold_out_is_the_users_error(tmp_path: Path, files: int, wanted: str) -> None:
    root = tmp_path / "text"
    root.mkdir()
    for number in range(files):
        (root / f"{number}.txt").write_text("x" * 1000)
    with pytest.raises(UserError, match=wanted) as error:
        made(tmp_path / "a", stage({"text": lines(root)}, validation_bytes=1501 if files == 3 else 100))
    assert "corpus.validation_bytes=" in error.value.problems[0].remedy


def test_a_single_group_is_held_out_by_the_document(tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    (root / "book.txt").write_text("\n".join(f"chapter {number} " + "word " * 20 for number in range(40)))
    one, context = ready(tmp_path / "a", stage({"text": lines(root)}, validation_bytes=1000))
    one.run(context)
    told = corpus.funnel(context.out)
    assert 1000 <= told["bytes"]["validation"] < 2000
    train, held = (list(corpus.documents(context.out, split)) for split in ("train", "validation"))
    assert len(train) + len(held) == 40
    assert not {document.id for document in train} & {document.id for document in held}
    assert "pieces of it are held out" in context.notes[0]
    assert list(corpus.verify(context.out)) == []
    assert corpus.funnel(context.out)["validation"]["by_document"] is True


def test_shards_are_cut_by_their_text(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    out = made(tmp_path / "a", stage({"text": lines(folder)}, shard_bytes=1024))
    shards = corpus.shards(out)
    assert len(shards) > 3
    import pyarrow.parquet as pq

    sizes = [sum(len(text.encode()) for text in pq.read_table(shard)["text"].to_pylist()) for shard in shards]
    assert all(size <= 1024 for size in sizes)
    assert all(a + b > 1024 for a, b in itertools.pairwise(sizes))
    one = made(tmp_path / "b", stage({"text": lines(folder)}))
    assert list(corpus.documents(out)) == list(corpus.documents(one))
    tiny = made(tmp_path / "c", stage({"text": lines(folder)}, shard_bytes=60))
    assert list(corpus.documents(tiny)) == list(corpus.documents(one))


# --- documents --------------------------------------------------------------------------------------------------------


def test_every_kind_of_document_passes(tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo \ud83d\ude00 \ud800"}]},
        {"prompt": "p", "chosen": "c", "rejected": "r", "meta": {"b": [1], "a": "ü"}},
        {"text": "half \ud83d"},
    ]
    (root / "a.txt").write_text("\n".join(json.dumps(row) for row in rows))
    out = made(tmp_path / "a", stage({"text": lines(root)}, {"short": ShortConfig(), "twins": Plain()}))
    found = list(corpus.documents(out))
    assert found[0].messages == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo 😀 \ufffd"}]
    assert (found[1].prompt, found[1].chosen, found[1].rejected) == ("p", "c", "r")
    assert found[1].meta == {"b": [1], "a": "ü"}
    assert found[2].text == "half \ufffd"
    assert [document.group for document in found] == [document.id for document in found]
    assert corpus.funnel(out)["sources"]["text"]["read"] == {
        "documents": 3,
        "bytes": sum(document.length() for document in found),
        "repaired": 2,
    }


def test_only_columns_that_occur_are_written(tmp_path: Path, folder: Path) -> None:
    import pyarrow.parquet as pq

    out = made(tmp_path / "a", stage({"text": lines(folder)}))
    assert pq.read_schema(corpus.shards(out)[0]).names == ["id", "text", "source", "group", "meta"]


def test_a_filter_learns_once_and_is_part_of_the_key(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    words = tmp_path / "words.jsonl"
    words.write_text('{"word": "eins"}\n{"word": "OK"}\n')
    config = stage({"text": lines(folder)}, {"learnt": LearntConfig(path=str(words))}, workers=2)
    one, context = ready(tmp_path / "a", config)
    first = one.identity(context)
    one.run(context)
    texts = list(corpus.texts(context.out))
    assert texts
    assert not any("eins" in text or "OK" in text for text in texts)
    words.write_text('{"word": "eins"}\n')
    second = ready(tmp_path / "b", config)
    assert second[0].identity(second[1]) != first
    words.unlink()
    with pytest.raises(UserError, match=r"filters\.learnt.*cannot be read"):
        second[0].identity(second[1])


# --- sources ----------------------------------------------------------------------------------------------------------


def test_identity_is_content_and_no_path(tmp_path: Path, folder: Path) -> None:
    def identity() -> Any:
        one, context = ready(tmp_path / "a", stage({"text": lines(folder)}))
        return one.identity(context)

    before = identity()
    folder = folder.rename(tmp_path / "moved")
    assert identity() == before
    (folder / "03.txt").write_text("other")
    assert identity() != before


def test_a_fallback_yields_to_a_source_that_is_set(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text("my own text")
    sources = {"docs": lines(folder), "files": lines(tmp_path / "own")}
    out = made(tmp_path / "a", stage(sources, fallback=["docs"]))
    assert [document.id for document in corpus.documents(out)] == ["files/a.txt:0"]

    sources["files"] = LinesConfig(part="lines")
    one, context = ready(tmp_path / "b", stage(sources, fallback=["docs"]))
    one.run(context)
    assert corpus.funnel(context.out)["sources"].keys() == {"docs"}
    assert context.notes == ["corpus: files not set; reading docs"]


def test_several_sources_follow_one_another(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text("my own text")
    out = made(tmp_path / "a", stage({"z": lines(tmp_path / "own"), "a": lines(folder)}))
    found = list(corpus.documents(out))
    assert found[0].id == "z/a.txt:0"
    assert found[1].id == "a/00.txt:0"
    assert corpus.funnel(out)["sources"]["z"]["documents"] == 1


# --- errors -----------------------------------------------------------------------------------------------------------


def test_no_source_set_names_the_key(tmp_path: Path) -> None:
    one, context = ready(tmp_path / "a", stage({"files": LinesConfig(part="lines")}))
    with pytest.raises(UserError, match=r"corpus\.sources\.files\.path") as error:
        one.identity(context)
    assert len(error.value.render().splitlines()) == 3


def test_everything_dropped_names_the_filter(tmp_path: Path, folder: Path) -> None:
    filters = {"short": ShortConfig(part="short", least=10_000), "twins": Plain()}
    with pytest.raises(UserError, match=r"short kept 0 of [\d,]+ \([\d,]+ too_short\)") as error:
        made(tmp_path / "a", stage({"text": lines(folder)}, filters))
    assert "corpus.filters.short" in error.value.problems[0].remedy


def test_nothing_read(tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    with pytest.raises(UserError, match="found no files"):
        made(tmp_path / "a", stage({"text": lines(root)}))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_cross_from_workers(tmp_path: Path, folder: Path, small_tasks: None, workers: int) -> None:
    (folder / "05.txt").write_text("fine\nBROKEN")
    with pytest.raises(UserError, match="line 2") as error:
        made(tmp_path / "a", stage({"text": lines(folder)}, workers=workers))
    assert error.value.problems[0].remedy == "mend it"
    # This exception cannot be unpickled; it would break the pool if it were sent as it is.
    (folder / "05.txt").write_text("fine\nBUG")
    with pytest.raises(Fault, match=r"reading .* of source 'text'(.|\n)*own fault"):
        made(tmp_path / "b", stage({"text": lines(folder)}, workers=workers))


def test_filters_that_break_their_promise_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(Fault, match="'sloppy' gave 0 verdicts"):
        made(tmp_path / "a", stage({"text": lines(folder)}, {"sloppy": Plain()}))
    with pytest.raises(Fault, match="'lost' gave a verdict for position"):
        made(tmp_path / "b", stage({"text": lines(folder)}, {"lost": Plain()}))


# --- what the person sees ---------------------------------------------------------------------------------------------


def test_summary_and_progress(tmp_path: Path, folder: Path, small_tasks: None) -> None:
    config = stage({"text": lines(folder)}, ALL_FILTERS, validation_bytes=600)
    one, context = ready(tmp_path / "a", config)
    one.run(context)
    told = dict(one.summary(Artifact("corpus", context.out, "")))
    total = sum(len(path.read_text().split("\n")) for path in folder.iterdir())
    assert told["documents"] == f"{len(expected(folder)):,} kept of {total:,}"
    assert told["held out"].endswith("groups")
    assert "too_short" in told["dropped by short"]
    wanted, bar = context.bars["reading"]
    assert bar.done == wanted == sum(path.stat().st_size for path in folder.iterdir())
    assert bar.shown["documents"] == total
    assert context.bars["writing"][1].shown["documents"] == len(expected(folder))
    assert all(bar.done == (bar.wanted or wanted) for wanted, bar in context.bars.values())
    assert {"sketching for twins", "sorting for twins", "resolving twins", "applying twins"} <= set(context.bars)
    assert not (context.work / "round-0").exists()
