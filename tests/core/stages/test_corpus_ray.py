"""The corpus stage on a Ray of this machine: the same bytes, the same errors, and nothing left behind."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from corpus_context import made, ready, stage  # noqa: E402
from corpus_parts import KillerConfig, LinesConfig, Plain, ShortConfig  # noqa: E402
from lmgraft.errors import Fault, Stopped, UserError  # noqa: E402
from lmgraft.stages import _corpus_units, executors  # noqa: E402
from lmgraft.stages._corpus_ray import FOLDER, RayHands, _folder  # noqa: E402
from lmgraft.stages.executors import Executor  # noqa: E402

ray: Any = pytest.importorskip("ray")
FILTERS = {"short": ShortConfig(part="short"), "tidy": Plain(part="tidy"), "twins": Plain(part="twins")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight files of lines, each a task."""
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 1000)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    chance = random.Random(5)
    root = tmp_path / "text"
    root.mkdir()
    for number in range(8):
        lines = [
            " ".join(chance.choices(["OK", "eins", "#", "über", "a"], k=chance.randrange(1, 5))) for _ in range(90)
        ]
        (root / f"{number}.txt").write_text("\n".join(lines))
    return root


def lines(folder: Path, **more: Any) -> LinesConfig:
    return LinesConfig(part="lines", path=str(folder), **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def own_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{FOLDER}{os.getpid()}-*"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray that the tests share; the stage finds it and leaves it be. Elsewhere it starts its own."""
    folder = tempfile.mkdtemp(prefix="ray-test-")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder,
        object_store_memory=80 << 20, logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_its_own_ray_gives_the_same_bytes_and_is_gone_afterwards(tmp_path: Path, folder: Path) -> None:
    log = tmp_path / "log"
    settings = {"validation_bytes": 300, "shard_bytes": 1024}
    here = made(tmp_path / "a", stage({"text": lines(folder)}, FILTERS, **settings))
    before = signal.getsignal(signal.SIGTERM)
    config = stage({"text": lines(folder, log=str(log))}, FILTERS, workers=2, executor=Executor.ray, **settings)
    there = made(tmp_path / "b", config)
    assert contents(there) == contents(here)
    assert os.getpid() not in {int(line.split()[0]) for line in log.read_text().splitlines()}
    assert not ray.is_initialized()
    assert own_folders() == []
    assert list((tmp_path / "b" / "work").glob(".*")) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors_and_stops_cross_from_actors(cluster: None, tmp_path: Path, folder: Path) -> None:
    settings = {"workers": 2, "executor": Executor.ray}
    (folder / "3.txt").write_text("fine\nBROKEN")
    with pytest.raises(UserError, match="line 2") as error:
        made(tmp_path / "a", stage({"text": lines(folder)}, **settings))
    assert error.value.problems[0].remedy == "mend it"
    (folder / "3.txt").write_text("fine\nBUG")
    with pytest.raises(Fault, match=r"reading .* of source 'text'(.|\n)*own fault"):
        made(tmp_path / "b", stage({"text": lines(folder)}, **settings))
    (folder / "3.txt").write_text("fine")
    one, context = ready(tmp_path / "c", stage({"text": lines(folder)}, **settings))
    calls = iter(range(3))

    def stop() -> None:
        if next(calls, None) is None:
            raise Stopped("stopped")

    context.stop = stop
    with pytest.raises(Stopped):
        one.run(context)
    assert ray.is_initialized()  # it was there before


def test_an_actor_that_dies_is_the_same_fault(cluster: None, tmp_path: Path, folder: Path) -> None:
    (folder / "4.txt").write_text("a line\nthe end of a process\nanother line")
    flag = tmp_path / "flag"
    filters = {"killer": KillerConfig(flag=str(flag), word="the end of a process"), "twins": Plain()}
    config = stage({"text": lines(folder)}, filters, workers=2, executor=Executor.ray)
    with pytest.raises(Fault) as error:
        made(tmp_path / "a", config)
    told = str(error.value).splitlines()
    assert told[0] == "a worker process of corpus ended without a word"
    assert told[2].startswith("  try: corpus.workers=1")
    assert len(told) == 3
    assert contents(made(tmp_path / "a", config)) == contents(made(tmp_path / "b", stage(config.sources, filters)))


def test_a_machine_that_does_not_see_the_folder_is_named(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = RayHands({}, {}, 1, "corpus", tmp_path)
    hands._nonce.write_text("of another folder of that name")
    with pytest.raises(UserError) as error:
        hands.submit(lambda workshop, task: task, 1).wait(60.0)
    hands.close(at_once=True)
    told = str(error.value).splitlines()
    assert re.fullmatch(rf"corpus\.executor=ray: the machine \S+ does not see {re.escape(str(tmp_path))}", told[0])
    assert "store.dir=FOLDER" in told[2]
    assert list(tmp_path.iterdir()) == []


def test_without_ray_there_is_a_remedy_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    found = list(executors.missing(Executor.ray, "corpus"))
    assert [str(problem).splitlines()[::2] for problem in found] == [
        ["corpus.executor=ray", "  try: pip install 'lmgraft[ray]'"]
    ]
    assert list(executors.missing(Executor.processes, "corpus")) == []


def test_no_ray_at_the_address(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError) as error:
        made(tmp_path / "a", stage({"text": lines(folder)}, workers=2, executor=Executor.ray))
    told = str(error.value).splitlines()
    assert told[0] == "corpus.executor=ray: Ray at RAY_ADDRESS=127.0.0.1:1 cannot be joined"
    assert len(told) == 3
    assert own_folders() == []


SCRIPT = """
import sys, signal
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from corpus_context import ready, stage
from corpus_parts import LinesConfig, SlowConfig
from lmgraft.signals import StopRequest
from lmgraft.stages import _corpus_units
from lmgraft.stages.executors import Executor
_corpus_units.TASK_BYTES = 100
source = LinesConfig(part="lines", path=sys.argv[3], log=sys.argv[4])
config = stage({"text": source}, {"slow": SlowConfig(part="slow")}, workers=2, executor=Executor.ray)
one, context = ready(Path(sys.argv[2]), config)
with StopRequest() as request:
    context.stop = request.check
    try:
        one.run(context)
    except BaseException as error:
        print(type(error).__name__)
        sys.exit(getattr(error, "exit_code", 1))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_signals_end_it_and_its_ray(tmp_path: Path, number: int, code: int) -> None:
    root = tmp_path / "text"
    root.mkdir()
    for name in range(60):
        (root / f"{name:02}.txt").write_text("a line of text\n" * 10)
    log = tmp_path / "log"
    command = [sys.executable, "-c", SCRIPT, str(HERE), str(tmp_path / "a"), str(root), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not log.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == code
    while any(str(process.pid) in line for line in _rays()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # What SIGKILL left is removed by the next Ray of ours.
    left = list(Path(tempfile.gettempdir()).glob(f"{FOLDER}{process.pid}-*"))
    assert bool(left) == (number == signal.SIGKILL)
    new = _folder()
    assert not any(path.exists() for path in left)
    new.rmdir()


def _rays() -> Iterator[str]:
    """The command lines of Ray's processes: they name the folder, and that the process that began them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{FOLDER}" in line:
            yield line
