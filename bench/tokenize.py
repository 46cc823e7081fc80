"""A gigabyte of text encoded and packed: the tokens stage, the way of Hugging Face's run_clm, and gigatoken by itself.

The text is made of real corpora (``bench/_tokenize_text.py``; needs ``LMGRAFT_TEST_DATA``) and lies in Parquet as the
corpus stage writes it. The tokenizer is GPT-2's. Ours is the stage in a process of its own, with gigatoken where its
ids are right, and once more with ``encoder=tokenizers``; both write Megatron's .bin/.idx to disk. The peer is
``datasets.map(tokenize, batched=True, num_proc=2)`` and ``group_texts``, on text that is loaded already. The ids of all
three have to be equal before any figure is told. Two threads or processes each; times are without imports, with all
else (for ours: reading, loading and checking gigatoken, counting, fsync). Memory is that of a side's processes.

``LMGRAFT_BENCH_BYTES`` sets the bytes of text (1,000,000,000). The raw rate and ours alternate (A B A B) ``-n`` times;
the slow sides run ``-n`` / 5 times. Files (the peer's take 15 GB) lie in the temporary folder (TMPDIR) and are removed.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._tokenize_text import write
from bench.measure import HERE, machine, peer_python
from bench.minhash import _Tree

PAD = "<|pad|>"


def run(runs: int) -> tuple[str, dict[str, Any]]:
    data = os.environ.get("LMGRAFT_TEST_DATA")
    if not data:
        raise SystemExit(
            "bench tokenize reads corpus/, multilingual/ and tokenizer/ of LMGRAFT_TEST_DATA; it is not set"
        )
    with tempfile.TemporaryDirectory(prefix="bench-tokenize-") as name:
        folder = Path(name)
        size = int(float(os.environ.get("LMGRAFT_BENCH_BYTES", 1e9)))
        text = write(Path(data), folder / "corpus", size)
        _tokenizer(Path(data), folder / "tokenizer")
        sides = _Sides(folder)
        for _ in range(max(1, runs // 5)):
            sides.once("tokenizers")
            sides.once("peer")
        for _ in range(runs):
            sides.once("raw")
            sides.once("ours")
    result = {"text": text, **sides.result(text["bytes"])}
    return _table(result, runs), result


def _tokenizer(data: Path, folder: Path) -> None:
    """GPT-2's, with a padding token."""
    folder.mkdir()
    content = json.loads(gzip.decompress((data / "tokenizer" / "gpt2_tokenizer.json.gz").read_bytes()))
    end = content["added_tokens"][0]
    content["added_tokens"].append({**end, "id": end["id"] + 1, "content": PAD, "normalized": False})
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    names = {"eos_token": end["content"], "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")


class _Sides:
    """Each side's times and memory, and the one digest that all of them have to give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, list[float]] = {}
        self.memory: dict[str, float] = {}
        self.said: dict[str, Any] = {}
        self.digest = ""

    def once(self, side: str) -> None:
        inputs = [self.folder / "corpus", self.folder / "tokenizer"]
        out = self.folder / "out"
        ours = [sys.executable, "-m", "bench._tokenize_ours", *inputs, out]
        command: list[str | Path] = {
            "ours": [*ours, "auto"],
            "tokenizers": [*ours, "tokenizers"],
            "raw": [sys.executable, "-m", "bench._tokenize_raw", *inputs],
            "peer": [peer_python("tokenize"), HERE / "peers" / "tokenize_steps.py", *inputs, out],
        }[side]
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "home")}
        found, memory = _measured(command, env)
        shutil.rmtree(out, ignore_errors=True)
        self.memory[side] = max(memory, self.memory.get(side, 0.0))
        self.said[side] = found
        if side == "raw":
            self.seconds.setdefault("memory", []).append(found["memory"])
        else:
            self.digest = self.digest or found["sha256"]
            if found["sha256"] != self.digest:
                raise SystemExit(f"{side} gives other ids")
        self.seconds.setdefault(side, []).append(found["files"] if side == "raw" else found["seconds"])

    def result(self, size: int) -> dict[str, Any]:
        rates = {side: size / 1e6 / statistics.median(seconds) for side, seconds in self.seconds.items()}
        return {
            "seconds": self.seconds,
            "mb_per_second": rates,
            "peak_mb": self.memory,
            "times_the_peer": rates["ours"] / rates["peer"],
            "tokenizers_times_the_peer": rates["tokenizers"] / rates["peer"],
            "of_the_raw_rate": rates["ours"] / rates["raw"],
            "of_the_rate_in_memory": rates["ours"] / rates["memory"],
            "tokens": self.said["peer"]["tokens"],
            "dropped_by_group_texts": self.said["peer"]["tokens"] - 1024 * self.said["peer"]["blocks"],
            "encoder": self.said["ours"]["said"],
        }


def _measured(command: list[str | Path], env: dict[str, str]) -> tuple[dict[str, Any], float]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=said, env=env, cwd=HERE.parent)
        with _Tree(process.pid) as tree:
            code = process.wait()
        out.seek(0)
        said.seek(0)
        if code:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said.read()}")
        return json.loads(out.read().splitlines()[-1]), tree.most["rss_mb"]


def _table(result: dict[str, Any], runs: int) -> str:
    names = {
        "ours": "tokens stage (gigatoken)",
        "tokenizers": "tokens stage, encoder=tokenizers",
        "peer": "datasets.map and group_texts",
        "raw": "gigatoken by itself, its own Parquet reader",
        "memory": "gigatoken by itself, text in memory",
    }
    lines = ["| | MB/s | s | spread | peak MB |", "|---|---|---|---|---|"]
    for side, name in names.items():
        seconds, peak = result["seconds"][side], result["peak_mb"].get(side)
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        held = f"{peak:,.0f}" if peak else ""
        rate = result["mb_per_second"][side]
        lines.append(f"| {name} | {rate:,.1f} | {statistics.median(seconds):.1f} | {spread} | {held} |")
    text = result["text"]
    lines += [
        "",
        f"{text['documents']:,} distinct documents, {text['bytes'] / 1e9:.2f} GB, {result['tokens']:,} tokens, equal"
        f" ids on all sides (group_texts then drops {result['dropped_by_group_texts']:,} of them, ours none). Ours is"
        f" {result['times_the_peer']:.1f} times the peer, {result['of_the_raw_rate']:.0%} of the encoder's own rate on"
        f" the same files and {result['of_the_rate_in_memory']:.0%} of that in memory; without gigatoken"
        f" {result['tokenizers_times_the_peer']:.1f} times the peer. Medians of {runs} ({max(1, runs // 5)} of the slow"
        f" sides), imports aside, 2 threads or processes each. {machine()}.",
    ]
    return "\n".join(lines)
