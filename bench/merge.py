"""Merges of model folders beside ``mergekit``: ``dus`` (its ``passthrough`` of two slices), ``linear``, ``slerp``,
``ties``.

Both sides are whole commands on the same folders of generated weights: the shapes of Mistral 7B at half its width and
half its depth, 1.0e9 parameters, bfloat16; the others are the first one with small changes everywhere. Before anything
is timed the results are compared, read by the safetensors library: ``dus`` bit for bit; the others in float32, on
narrow models, to 1e-6, and in bfloat16 on the large ones, where a rounding may fall to the neighbour (how often is
told). mergekit computes ``linear`` and ``slerp`` of bfloat16 models in float32, as we do, and ``ties`` in bfloat16
unless it is told otherwise: its float32 is what is compared, and both are timed. Of changes of one magnitude at the
limit, frequent in bfloat16, ``ties`` keeps the first ones here and others there, where the sort is not a stable one.

Memory is anonymous memory, RssAnon of /proc/PID/status, looked at every 5 ms from outside: what the process allocated
itself. Pages of files that are mapped or cached do not count, since the system takes them back when it wants to.

The folders lie in the system's temporary folder (set TMPDIR for another disk) and are removed. What takes the time of
``dus`` is writing; so beside the two stands ``cp`` of our result, which is what the disk takes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._merge_models import generate, largest_difference, same
from bench.measure import Times, alternate, machine, once, peer_python

LAYERS, DROP = 16, 4
WIDTH = {
    "num_hidden_layers": LAYERS, "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 7168,
    "num_attention_heads": 16, "num_key_value_heads": 4,
}  # fmt: skip
#: The same model so narrow that only the start of the process is left.
NARROW = {
    "num_hidden_layers": LAYERS, "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 224,
    "num_attention_heads": 4, "num_key_value_heads": 1,
}  # fmt: skip
#: What is on the disk at once: three models, our result kept, and one of ours or of theirs.
ROOM = 14 * 10**9
EQUAL = 1e-6
#: In bfloat16: no difference is larger than what training changed, and few numbers differ (of ``ties``, 0.7% measured:
#: its changes of one magnitude).
NEIGHBOUR, ROUNDED = 0.02, 0.02
QUIET = ["--quiet", "--no-copy-tokenizer", "--no-write-model-card"]
ENV = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True)
class Method:
    """One merge, in our words and in the peer's."""

    name: str
    models: int
    ours: list[str]
    theirs: dict[str, Any]
    flags: dict[str, list[str]] = field(default_factory=lambda: {"": []})
    """What the peer offers for more speed; the fastest is compared."""
    dtypes: dict[str, dict[str, str]] = field(default_factory=lambda: {"": {"dtype": "bfloat16"}})
    """What the peer computes in; the first is what our result is compared with."""
    runs: int = 100
    """Counted runs at most: some take minutes."""


def methods() -> list[Method]:
    spans = [[0, LAYERS - DROP], [DROP, LAYERS]]
    slices = [{"sources": [{"model": "0", "layer_range": span}]} for span in spans]
    pair = [{"model": "0", "parameters": {"weight": 0.6}}, {"model": "1", "parameters": {"weight": 0.4}}]
    tuned = [{"model": str(number), "parameters": {"weight": 1.0, "density": 0.2}} for number in (1, 2)]
    return [
        Method(
            "dus", 1, ["--drop", str(DROP)], {"merge_method": "passthrough", "slices": slices},
            {"": [], " --async-write": ["--async-write"]},
        ),
        Method("linear", 2, ["--weights", "0.6,0.4"], {"merge_method": "linear", "models": pair}),
        Method(
            "slerp", 2, ["--t", "0.3"],
            {"merge_method": "slerp", "base_model": "0", "models": pair, "parameters": {"t": 0.3}},
            runs=3,
        ),
        Method(
            "ties", 3, ["--density", "0.2"],
            {"merge_method": "ties", "base_model": "0", "models": [{"model": "0"}, *tuned]},
            dtypes={
                " in float32": {"dtype": "float32", "out_dtype": "bfloat16"},
                " in bfloat16": {"dtype": "bfloat16"},
            },
            runs=2,
        ),
    ]  # fmt: skip


def run(runs: int) -> tuple[str, dict[str, Any]]:
    peer = peer_python("merge").parent / "mergekit-yaml"
    with tempfile.TemporaryDirectory(prefix="bench-merge-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < ROOM:
            raise SystemExit(f"{folder.parent} has {free / 1e9:.0f} GB free, {ROOM / 1e9:.0f} are needed: set TMPDIR")
        wide, narrow, exact = (folder / kind for kind in ("wide", "narrow", "exact"))
        _models(wide, WIDTH, "bfloat16")
        _models(narrow, NARROW, "bfloat16")
        _models(exact, NARROW, "float32")
        done = [_Work(wide, narrow, exact, peer, method).measured(runs) for method in methods()]
    return _table(done, runs), _result(done)


def _models(folder: Path, shapes: dict[str, int], dtype: str) -> None:
    folder.mkdir()
    generate(folder / "0", dtype=dtype, **shapes)
    for number in (1, 2):
        generate(folder / str(number), like=folder / "0", seed=number, dtype=dtype, **shapes)


@dataclass(frozen=True)
class Measured:
    """What one method gave."""

    method: Method
    times: dict[str, Times]
    least: dict[str, Times]
    size: int
    equal: str
    difference: float
    differ: float

    @property
    def ours(self) -> str:
        return f"lmgraft merge {self.method.name}"

    @property
    def peers(self) -> dict[str, float]:
        return {name: took.median for name, took in self.times.items() if name.startswith("mergekit")}

    @property
    def ratio(self) -> float:
        return min(self.peers.values()) / self.times[self.ours].median


class _Work:
    """One method on the models of three folders."""

    def __init__(self, wide: Path, narrow: Path, exact: Path, peer: Path, method: Method) -> None:
        self.wide, self.narrow, self.exact, self.peer, self.method = wide, narrow, exact, peer, method
        self.env = {**os.environ, **ENV}

    def measured(self, runs: int) -> Measured:
        """Compares, then times, large and small."""
        equal, difference, differ = self._compare()
        size = sum(file.stat().st_size for file in (self.wide / "kept").iterdir())
        times, least = self._times(self.wide, min(runs, self.method.runs)), self._times(self.narrow, min(runs, 5))
        for folder in (self.wide, self.narrow):
            _clear(folder, "ours", "theirs", "kept")
        return Measured(self.method, times, least, size, equal, difference, differ)

    def _commands(self, folder: Path, dtypes: dict[str, dict[str, str]]) -> dict[str, list[str | Path]]:
        lmgraft, name = Path(sys.executable).parent / "lmgraft", self.method.name
        models = [folder / str(number) for number in range(self.method.models)]
        found: dict[str, list[str | Path]] = {
            f"lmgraft merge {name}": [lmgraft, "merge", name, *models, folder / "ours", *self.method.ours]
        }
        for kind, settings in dtypes.items():
            written = folder / f"{name}{kind.replace(' ', '-')}.json"  # JSON is YAML
            written.write_text(json.dumps({**_placed(self.method.theirs, folder), **settings}), encoding="utf-8")
            for word, flags in self.method.flags.items():
                found[f"mergekit{kind}{word}"] = [self.peer, written, folder / "theirs", *QUIET, *flags]
        return found

    def _compare(self) -> tuple[str, float, float]:
        if self.method.name == "dus":
            return f"{self._once(self.wide, self.method.dtypes, same)} tensors bit for bit", 0.0, 0.0
        most, _ = self._once(self.exact, {"": {"dtype": "float32"}}, largest_difference)
        if not most <= EQUAL:
            raise SystemExit(f"{self.method.name}: the results in float32 differ by {most}")
        gap, differ = self._once(self.wide, self.method.dtypes, largest_difference)
        if not (gap <= NEIGHBOUR and differ <= ROUNDED):
            raise SystemExit(f"{self.method.name}: in bfloat16 {differ:.2%} differ, by {gap} at most")
        return f"within {most:.1e} in float32, {100 * (1 - differ):.4f}% bit for bit in bfloat16", gap, differ

    def _once(self, folder: Path, dtypes: dict[str, dict[str, str]], compare: Any) -> Any:
        """What ``compare`` says of the two results; ours is kept for ``cp``."""
        ours, theirs, *_ = self._commands(folder, dtypes).values()
        once(ours, self.env)
        once(theirs, self.env)
        found = compare(folder / "ours", folder / "theirs")
        _clear(folder, "theirs", "kept")
        (folder / "ours").rename(folder / "kept")
        return found

    def _times(self, folder: Path, runs: int) -> dict[str, Times]:
        if not (folder / "kept").exists():
            self._once(folder, self.method.dtypes, lambda ours, theirs: None)
        commands = self._commands(folder, self.method.dtypes)
        commands["cp of the result"] = ["cp", "-r", folder / "kept", folder / "ours"]
        return alternate(commands, runs, self.env, lambda: _clear(folder, "ours", "theirs", sync=True))


def _placed(theirs: Any, folder: Path) -> Any:
    """The peer's settings with folders in place of the models' numbers."""
    if isinstance(theirs, dict):
        named = ("model", "base_model")
        return {key: str(folder / v) if key in named else _placed(v, folder) for key, v in theirs.items()}
    return [_placed(item, folder) for item in theirs] if isinstance(theirs, list) else theirs


def _clear(folder: Path, *names: str, sync: bool = False) -> None:
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
    if sync:
        os.sync()  # or one side would write while the disk is still busy with the other's bytes


def _table(done: list[Measured], runs: int) -> str:
    lines = [
        "| | s | spread | ratio to ours | own memory, MB | with mapped files, MB | s, of narrow models |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in done:
        for name, took in one.times.items():
            lines.append(
                f"| {name if name == one.ours else f'{one.method.name}: {name}'} | {took.median:.2f} | {took.spread}"
                f" | {took.median / one.times[one.ours].median:.2f} | {took.anon_mb:.0f} | {took.peak_mb:.0f}"
                f" | {one.least[name].median:.2f} |"
            )
    equal = "; ".join(f"{one.method.name} {one.size / 1e9:.1f} GB written, {one.equal}" for one in done)
    text = (
        f"Models of 1.0e9 parameters in bfloat16, 2.0 GB. Equal to mergekit's: {equal}. Medians of {runs} runs at most"
        " (slerp 3, ties 2, narrow 5), whole processes, in turn, nothing flushed to the disk by any side. Own memory is"
        f" RssAnon at its peak. {machine()}."
    )
    return "\n".join([*lines, "", text])


def _result(done: list[Measured]) -> dict[str, Any]:
    least = min(done, key=lambda one: one.ratio)
    return {
        "name": "merge",
        "equal": True,  # it had ended otherwise
        "method": least.method.name,
        "ours": least.times[least.ours].median,
        "peers": least.peers,
        "ratio": least.ratio,
        "unit": "seconds",
        "bytes": least.size,
        "peak_mb": {name: took.peak_mb for name, took in least.times.items()},
        "methods": {
            one.method.name: {
                "ours": one.times[one.ours].median,
                "peers": one.peers,
                "ratio": one.ratio,
                "equal": one.equal,
                "largest_difference_bfloat16": one.difference,
                "share_that_differs_bfloat16": one.differ,
                "anon_mb": {name: took.anon_mb for name, took in one.times.items()},
                "peak_mb": {name: took.peak_mb for name, took in one.times.items()},
                "seconds_of_narrow_models": {name: took.median for name, took in one.least.items()},
            }
            for one in done
        },
    }
