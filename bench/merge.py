"""Depth up-scaling of a model folder, beside ``mergekit``: its ``passthrough`` of the slices [0, n - m] and [m, n].

Both sides are whole commands on the same folder of generated weights (the shapes of Mistral 7B at half its width and
half its depth, bfloat16). Before anything is timed, every tensor of the two results is compared bit for bit, read by
the safetensors library. The folders lie in the system's temporary folder (set TMPDIR for another disk) and are removed.

What takes the time in both is writing; so beside the two stands ``cp`` of our result, which is what the disk takes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import Times, alternate, machine, once, peer_python

LAYERS, DROP = 16, 4
WIDTH = {"hidden_size": 2048, "intermediate_size": 7168, "num_attention_heads": 16, "num_key_value_heads": 4}
#: The same model so narrow that only the start of the process is left.
NARROW = {"hidden_size": 64, "intermediate_size": 224, "num_attention_heads": 4, "num_key_value_heads": 1}
SHARD_BYTES = 10**9
#: What the peer offers for more speed; the faster of the two is compared.
PEERS = {"mergekit": [], "mergekit --async-write": ["--async-write"]}
QUIET = ["--quiet", "--no-copy-tokenizer", "--no-write-model-card"]
ENV = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def run(runs: int) -> tuple[str, dict[str, Any]]:
    peer = peer_python("merge").parent / "mergekit-yaml"
    with tempfile.TemporaryDirectory(prefix="bench-merge-") as name:
        folder = Path(name)
        whole = _Work(folder / "whole", peer, vocab_size=32_000, **WIDTH)
        equal = whole.check()
        narrow = _Work(folder / "narrow", peer, vocab_size=32_000 // 32, **NARROW)
        narrow.check()
        times, least = whole.times(runs), narrow.times(runs)
        size, small = whole.size(), narrow.size()
    return _table(times, least, size, small, equal, runs), _result(times, least, size, equal)


class _Work:
    """One model, and the commands that up-scale it."""

    def __init__(self, folder: Path, peer: Path, **shapes: int) -> None:
        self.folder, model = folder, folder / "model"
        folder.mkdir()
        generate(model, **shapes)
        (folder / "slices.yaml").write_text(_slices(model), encoding="utf-8")
        ours = [Path(sys.executable).parent / "lmgraft", "merge", "dus", model, folder / "ours", "--drop", str(DROP)]
        self.commands: dict[str, list[str | Path]] = {"lmgraft merge dus": ours}
        for name, flags in PEERS.items():
            self.commands[name] = [peer, folder / "slices.yaml", folder / "theirs", *QUIET, *flags]
        self.env = {**os.environ, **ENV}

    def check(self) -> int:
        """How many tensors there are, and that each of the two results holds the same; ours is kept for ``cp``."""
        ours, theirs = (list(self.commands)[index] for index in (0, 1))
        once(self.commands[ours], self.env)
        once(self.commands[theirs], self.env)
        count = same(self.folder / "ours", self.folder / "theirs")
        shutil.rmtree(self.folder / "theirs")
        (self.folder / "ours").rename(self.folder / "kept")
        return count

    def size(self) -> int:
        """Bytes of the result."""
        return sum(file.stat().st_size for file in (self.folder / "kept").iterdir())

    def times(self, runs: int) -> dict[str, Times]:
        copy = {"cp of the result": ["cp", "-r", self.folder / "kept", self.folder / "ours"]}
        return alternate({**self.commands, **copy}, runs, self.env, self._clear)

    def _clear(self) -> None:
        for name in ("ours", "theirs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        os.sync()  # or one side would write while the disk is still busy with the other's bytes


def generate(folder: Path, **shapes: int) -> None:
    """A Mistral of these shapes with normal weights, shard by shard: no two tensors are alike."""
    import torch
    import transformers
    from safetensors.torch import save_file

    config = transformers.MistralConfig(num_hidden_layers=LAYERS, dtype="bfloat16", **shapes)
    with torch.device("meta"):
        state = transformers.MistralForCausalLM(config).state_dict()
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    shards: list[list[str]] = [[]]
    for name in state:
        if sum(2 * state[other].numel() for other in (*shards[-1], name)) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(name)
    random, weight_map = torch.Generator().manual_seed(0), {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        made = {name: torch.randn(state[name].shape, generator=random, dtype=torch.bfloat16) * 0.02 for name in names}
        save_file(made, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, file))
    size = sum(2 * tensor.numel() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _slices(model: Path) -> str:
    ranges = [[0, LAYERS - DROP], [DROP, LAYERS]]
    slices = [{"sources": [{"model": str(model), "layer_range": span}]} for span in ranges]
    return json.dumps({"merge_method": "passthrough", "dtype": "bfloat16", "slices": slices})  # JSON is YAML


def same(ours: Path, theirs: Path) -> int:
    """The number of tensors, where names, dtypes, shapes and bytes are equal; raises where they are not."""
    import torch

    left, right = dict(_tensors(ours)), dict(_tensors(theirs))
    if left.keys() != right.keys():
        raise SystemExit(f"the results differ in tensors: {sorted(left.keys() ^ right.keys())}")
    for name in sorted(left):
        a, b = left[name].get_tensor(name), right[name].get_tensor(name)
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
            raise SystemExit(f"the results differ in {name}: {a.dtype} {a.shape}, {b.dtype} {b.shape}")
    depths = [json.loads((side / "config.json").read_text())["num_hidden_layers"] for side in (ours, theirs)]
    if depths != [2 * (LAYERS - DROP)] * 2:
        raise SystemExit(f"config.json tells of {depths} layers")
    return len(left)


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name -> the open file that holds it."""
    from safetensors import safe_open

    for file in folder.glob("*.safetensors"):
        opened = safe_open(file, framework="pt")
        for name in opened.keys():  # noqa: SIM118
            yield name, opened


def _table(times: dict[str, Times], least: dict[str, Times], size: int, small: int, equal: int, runs: int) -> str:
    ours = next(iter(times.values()))
    lines = [
        "| | s | spread | GB/s | ratio to ours | own memory, MB | with mapped files, MB"
        f" | s, where {small / 1e6:.1f} MB are written |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, took in times.items():
        lines.append(
            f"| {name} | {took.median:.2f} | {took.spread} | {size / took.median / 1e9:.2f}"
            f" | {took.median / ours.median:.2f} | {took.anon_mb:.0f} | {took.peak_mb:.0f} | {least[name].median:.2f} |"
        )
    text = (
        f"{size / 1e9:.2f} GB written, {LAYERS} layers to {2 * (LAYERS - DROP)}; {equal} tensors equal bit for bit."
        f" Medians of {runs}, whole processes, in turn, nothing flushed to the disk by any side. {machine()}."
    )
    return "\n".join([*lines, "", text])


def _result(times: dict[str, Times], least: dict[str, Times], size: int, equal: int) -> dict[str, Any]:
    ours, *_ = times.values()
    peers = {name: times[name].median for name in PEERS}
    return {
        "name": "merge",
        "equal": equal > 0,
        "tensors": equal,
        "bytes": size,
        "ours": ours.median,
        "peers": peers,
        "ratio": min(peers.values()) / ours.median,
        "unit": "seconds",
        "cp": times["cp of the result"].median,
        "anon_mb": {name: took.anon_mb for name, took in times.items()},
        "peak_mb": {name: took.peak_mb for name, took in times.items()},
        "seconds_of_a_small_model": {name: took.median for name, took in least.items()},
    }
