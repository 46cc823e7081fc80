"""How a layout is launched for its checks: twice a size, and the answers kept for all of them."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import json
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lmgraft import table
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Fault, UserError
from lmgraft.registry import build, registry
from lmgraft.testing import exam
from lmgraft.testing.common import PartSuite
from lmgraft.testing.composing import compose_part
from lmgraft.testing.difference import difference
from lmgraft.testing.outcome import Nonconforming
from lmgraft.testing.watching import stray_writes
from lmgraft.version import LAYERS

__all__ = ["REFERENCE", "ParallelismBase", "Told"]

REFERENCE = "the reference"

Size = Mapping[str, Any]
Answer = TypeVar("Answer")


@dataclass
class Told:
    """What the ranks of one launch said."""

    words: str
    """The size, as it is named in messages."""
    folder: Path
    ranks: list[dict[str, Any]] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    """Files that were written elsewhere."""
    changed: str = ""
    """How the part's settings changed."""

    @property
    def first(self) -> dict[str, Any]:
        return self.ranks[0]


#: suite -> what its launches said, or how they failed; a launch costs seconds, and many checks read one.
_kept: dict[type, dict[str, Any]] = {}


class ParallelismBase(PartSuite):
    """The settings of :class:`lmgraft.testing.ParallelismSuite`."""

    seam = "parallelism"
    reference: ClassVar[str] = "single"
    """The layout that the others are compared with: one process, the whole batch at once."""
    sizes: ClassVar[Sequence[Size]] = ()
    """Settings to compare; by default those of the suite alone, and ``{"ranks": 2}`` where there is such a field."""
    architecture: ClassVar[str] = "llama"
    """The model that is laid out: a part of this name, taken as a recipe takes it."""
    architecture_settings: ClassVar[Size] = {
        "layers": 2,
        "hidden": 32,
        "heads": 4,
        "kv_heads": 2,
        "mlp": 48,
        "context": 32,
    }
    """Its sizes; heads and layers divide among the ranks of every size."""
    learned: ClassVar[str] = "gpt2"
    """An architecture to whose answers absolute positions matter, for packed rows; empty: the layout takes none."""
    learned_settings: ClassVar[Size] = {"layers": 2, "hidden": 32, "heads": 4, "mlp": 48, "context": 32}
    """Its sizes."""
    initializer: ClassVar[str] = "normal"
    """Fills the weights, the same at every size."""
    initializer_settings: ClassVar[Size] = {"std": 0.08}
    """Wide enough that layers differ and gradients are told from rounding."""
    objective: ClassVar[str] = "causal_lm"
    """What the steps optimise."""
    optimizer: ClassVar[str] = "adamw"
    """What takes the steps; one with state, so that a checkpoint has some to carry."""
    vocab_size: ClassVar[int] = 97
    """Odd, so that a layout that splits it has to pad it."""
    asks: ClassVar[frozenset[str]] = frozenset({"logprob", "logsumexp", "entropy", "vocab_mean", "greedy"})
    """What the engine is asked to score; fewer where the architecture has fewer."""
    tolerance: ClassVar[float] = 1e-4
    """Of losses, norms and log-probabilities, absolute below 1 and relative above."""
    patience: ClassVar[float] = 300.0
    """Seconds for one launch; ranks that wait for one another wait for ever."""

    # --- launches ---------------------------------------------------------------------------------------------------

    @property
    def setup(self) -> exam.Setup:
        """The parts of the plan, taken through the registry."""
        chosen = {
            "architecture": (self.architecture, self.architecture_settings),
            "learned": (self.learned, self.learned_settings),
            "initializer": (self.initializer, self.initializer_settings),
            "objective": (self.objective, {}),
            "optimizer": (self.optimizer, {}),
        }
        parts: dict[str, tuple[Component[Any], ComponentConfig]] = {}
        for key, (name, settings) in chosen.items():
            if not name:
                continue
            seam = "architecture" if key == "learned" else key
            config = compose_part(seam, name, settings, self.folder)
            parts[key] = (registry().get(seam, name).component, config)
        context: int = build(*parts["architecture"]).context()
        layers = self.installed.component.api >= LAYERS
        return exam.Setup(parts, self.vocab_size, min(32, context), self.asks, layers=layers)

    def chosen_sizes(self) -> list[Size]:
        """The sizes that are compared."""
        if self.sizes:
            return list(self.sizes)
        fields = {spec.name for spec in dataclasses.fields(self.installed.component.config)}
        return [{}, {"ranks": 2}] if "ranks" in fields else [{}]

    def examined(self) -> list[Told]:
        """What every size said in the exam."""
        return [self.once(f"exam {size}", partial(self._exam, size)) for size in self.chosen_sizes()]

    def expected(self) -> Told:
        """What the reference said."""
        return self.once("exam of the reference", self._exam_reference)

    def resumed(self) -> list[Told]:
        """What every size, and the reference, said when it went on from all checkpoints."""
        writers = [*self.examined(), self.expected()]
        found = []
        for writer, size in zip(writers, [*self.chosen_sizes(), None], strict=True):
            found.append(self.once(f"resume {writer.words}", partial(self._resume, writer, size, writers)))
        return found

    def _exam(self, size: Size) -> Told:
        words = ", ".join(f"{name}={value}" for name, value in size.items()) or "its settings"
        return self._launched(words, self.compose(**size), lambda out: exam.Exam(self.setup, out))

    def _exam_reference(self) -> Told:
        return self._launched(REFERENCE, None, lambda out: exam.Exam(self.setup, out, whole=True))

    def _resume(self, told: Told, size: Size | None, writers: Sequence[Told]) -> Told:
        checkpoints = {writer.words: writer.folder / "checkpoint" for writer in writers}
        model = self.expected().folder / "model"
        config = None if size is None else self.compose(**size)
        return self._launched(told.words, config, lambda out: exam.Resume(self.setup, checkpoints, model, out))

    def behaviour(self, part: Any) -> Any:
        out = self.folder / f"short-{len(list(self.folder.iterdir()))}"
        out.mkdir()
        self._run(part, exam.Short(self.setup, out), self.name)
        return sorted(_read(out, self.name), key=lambda said: (said["data"], str(said)))

    def unlike(self, row: Mapping[str, float], right: Mapping[str, float]) -> str:
        """The first figure of a step that is another one."""
        if row.keys() != right.keys():
            return f"it tells of {', '.join(sorted(row))}, and one process of {', '.join(sorted(right))}"
        for name, value in right.items():
            if not abs(row[name] - value) <= self.tolerance * max(1.0, abs(value)):
                return f"{name.replace('_', ' ')} is {row[name]:.6g}, and {value:.6g} in one process"
        return ""

    # --- inside -----------------------------------------------------------------------------------------------------

    def once(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """The answer that an earlier check of this suite got, or its error; otherwise asks."""
        kept = _kept.setdefault(type(self), {})
        if key not in kept:
            try:
                kept[key] = ask()
            except Exception as error:
                kept[key] = error
        found = kept[key]
        if isinstance(found, Exception):
            raise found
        answer: Answer = found
        return answer

    def _launched(self, words: str, config: ComponentConfig | None, work: Callable[[Path], Any]) -> Told:
        """Launches this part with ``config``, or the reference, and reads what its ranks wrote."""
        root = Path(tempfile.mkdtemp(prefix="lmgraft-layout-")).resolve()
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        out, cwd = root / "out", root / "working-directory"
        for folder in (cwd, *(out / name for name in exam.FOLDERS)):
            folder.mkdir(parents=True)
        if config is None:
            component = registry().get("parallelism", self.reference).component
            config = compose_part("parallelism", self.reference, {}, self.folder)
            name = f"the reference {self.reference}"
        else:
            component, name = self.installed.component, f"{self.name} ({words})"
        before = copy.deepcopy(config)
        with stray_writes(cwd, [root, self.folder]) as stray:
            self._run(build(component, config), work(out), name)
        changed = difference(dataclasses.asdict(before), dataclasses.asdict(config))
        return Told(words, out, _read(out, name), stray, changed)

    def _run(self, part: Any, work: Any, name: str) -> None:
        try:
            with _limit(self.patience, name):
                part.launch(work)
        except UserError as error:
            first = error.problems[0]
            raise Nonconforming(f"{name}: {first.fact}", first.cause, first.remedy) from error
        except Fault as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            remedy = f"look at {self._spot(lines)}; the checks' work is in lmgraft.testing.exam"
            raise Nonconforming(f"{name} fails on its ranks", lines[-1].strip(), remedy) from error

    def _spot(self, lines: Sequence[str]) -> str:
        """The last line of the part's own code in a traceback."""
        place = table.location(self.row)
        found = [match for line in lines if (match := re.match(r'\s*File "(.+)", line (\d+)', line))]
        own = [match for match in found if place and Path(match[1]).is_relative_to(place)]
        last = (own or found)[-1:]
        return f"{last[0][1]}, line {last[0][2]}" if last else "its traceback"


def _read(out: Path, name: str) -> list[dict[str, Any]]:
    ranks = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("rank-*.json"))]
    if not ranks:
        raise Nonconforming(
            f"{name}: launch() returned and its work had not run",
            "no rank wrote an answer",
            "call work(make_engine) on every rank, where make_engine(plan) gives this rank's engine, and wait for all",
        )
    return ranks


@contextmanager
def _limit(seconds: float, name: str) -> Iterator[None]:
    """Ends a launch that hangs, where there are alarms (the main thread, on POSIX)."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: Any) -> None:
        raise Nonconforming(
            f"{name} has not ended after {seconds:.0f} s",
            "a rank that calls a collective waits until all others call it",
            "let every rank come to the same collectives in the same order; a slow machine takes a longer `patience`",
        )

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
