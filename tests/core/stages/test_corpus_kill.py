"""SIGKILL to the corpus stage and all its workers, at any moment: what comes out is what an undisturbed run makes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

SEED = 20_261_121


class Stage:
    """The stage, at the other end of a pipe."""

    def __init__(self, text: Path) -> None:
        self.text = text
        command = [sys.executable, str(Path(__file__).with_name("corpus_killed.py"))]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.seconds: dict[str, float] = {}
        """How long each phase takes where nothing disturbs it."""

    def start(self, root: Path, executor: str, workers: int) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([str(self.text), str(root), executor, workers]) + "\n")
        self.server.stdin.flush()
        return self.answer()

    def answer(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def whole(self, root: Path, executor: str = "processes", workers: int = 1) -> dict[str, str]:
        """An undisturbed run's digests."""
        self.start(root, executor, workers)
        phases: dict[str, float] = {}
        while (seen := phases_of(root)) or not (root / "out" / "funnel.json").exists():
            phases = seen or phases
            time.sleep(0.002)
        end = time.monotonic()
        assert self.answer() == 0
        starts = [*phases.values(), end]
        self.seconds = {name: after - start for name, start, after in zip(phases, starts, starts[1:], strict=False)}
        return digests(root)

    def killed(self, root: Path, executor: str, workers: int, phase: str, seconds: float) -> str | None:
        """Kills the whole group so long after a phase began: the phase it was in, or None where it had ended."""
        (root / "phase").unlink(missing_ok=True)
        pid = self.start(root, executor, workers)
        deadline = time.monotonic() + 60
        while phase not in phases_of(root) and not _ended(pid):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        code = self.answer()
        assert code in (0, -signal.SIGKILL)
        return None if code == 0 else (list(phases_of(root)) or ["starting"])[-1]


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def phases_of(root: Path) -> dict[str, float]:
    """Each phase that has begun, and when."""
    try:
        rows = [line.rpartition(" ") for line in (root / "phase").read_text().splitlines()]
    except FileNotFoundError:
        return {}
    return {name: float(when) for name, _, when in rows if when}


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((root / "out").iterdir())}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Over thirty files of lines, of which many are the same."""
    chance = random.Random(SEED)
    text = tmp_path_factory.mktemp("text")
    words = ["OK", "eins", "#", "überall", "wörter", "lines", "of", "text", "第三"]
    for number in range(30):
        lines = [" ".join(chance.choices(words, k=chance.randrange(1, 7))) for _ in range(chance.randrange(40, 120))]
        (text / f"{number:02}.txt").write_text("\n".join(lines))
    stage = Stage(text)
    yield stage
    assert stage.server.stdin is not None
    stage.server.stdin.close()
    stage.server.wait(30)


def sweep(
    stage: Stage, tmp_path: Path, kills: int, executors: list[tuple[str, int]], seed: int = SEED, aim: str = ""
) -> Counter[str]:
    """Kills until it has been killed so often, a few times each folder (or once, soon after the phase ``aim`` began);
    each folder ends as the undisturbed one."""
    tmp_path.mkdir(exist_ok=True)
    truth = stage.whole(tmp_path / "whole")
    phases = list(stage.seconds)
    chance = random.Random(seed)
    struck: Counter[str] = Counter()
    folder = 0
    while struck.total() < kills and folder < 10 * kills:
        root = tmp_path / f"killed-{folder}"
        folder += 1
        root.mkdir()
        aimed = [name for name in phases if aim and name.startswith(aim)]
        for phase in aimed or sorted(chance.sample(phases, 4), key=phases.index):
            executor, workers = chance.choice(executors)
            # Some of the kills strike a phase later; they are counted where they strike.
            found = stage.killed(
                root, executor, workers, phase, chance.uniform(0, (0.3 if aim else 1.3) * stage.seconds[phase])
            )
            if found is None:
                break
            struck[found.partition(" ")[0].partition(":")[0]] += 1
        stage.start(root, *chance.choice(executors))
        assert stage.answer() == 0
        assert digests(root) == truth, f"{root}: {struck}"
    return struck


PHASES = {"reading", "sketching", "sorting", "resolving", "applying", "writing"}


def test_killed_at_random_moments_it_ends_as_if_left_alone(stage: Stage, tmp_path: Path) -> None:
    struck = sweep(stage, tmp_path, 12, [("processes", 1)] * 5 + [("processes", 2)])
    assert len(struck) >= 3, struck


@pytest.mark.slow
def test_killed_many_times(stage: Stage, tmp_path: Path) -> None:
    kills = int(os.environ.get("LMGRAFT_KILLS", "60"))
    struck = sweep(stage, tmp_path, kills, [("processes", 1), ("processes", 2)], SEED + 1)
    print(f"killed {struck.total()} times: {dict(struck)}")
    # Chance may pass over a phase that is soon over: such a one is aimed at, until it is struck.
    for phase in sorted(PHASES - set(struck)):
        for attempt in range(10):
            if phase not in struck:
                struck += sweep(stage, tmp_path / f"{phase}-{attempt}", 1, [("processes", 1)], SEED + attempt, phase)
    assert set(struck) >= PHASES, struck


@pytest.mark.slow
def test_killed_on_ray(stage: Stage, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    struck = sweep(stage, tmp_path, 4, [("ray", 2)], SEED + 2)
    print(f"killed {struck.total()} times: {dict(struck)}")
