"""Greedy text from a model of 100 million parameters, beside ``transformers.generate`` at the same precision.

A Llama of 12 layers of width 640 with 32,000 tokens, random weights, 128 tokens read and 128 written, 1 text and 16 at
once, float32 and bfloat16, two threads. Each run is a process that loads the model, writes once to warm up and once on
the clock; the clock covers the reading of the prompt. The peer runs with the cache that it takes by itself and with its
static cache, and its better one counts. All ids of all sides have to be equal before any figure is told.

Of random weights the text soon repeats itself, and ids that rounding decides differ between any two programs. So the
head's row of each token is the embedding of another one (a random permutation): every layer is computed and most of
what the head reads comes from the layers, and yet the best token leads by far and the text walks along the permutation.

The ceiling is what the machine can do at one text: it reads each weight once a token, embeddings but for the head left
out, at the rate at which a plain sum reads a large tensor. ``LMGRAFT_BENCH_SIZES`` (layers, width, vocabulary, tokens),
as 2,64,500,8, makes a small one to try the bench.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bench.measure import HERE, Run, machine, once, peer_python

PRECISIONS = ("float32", "bfloat16")
BATCHES = (1, 16)
THREADS = 2
HEAD = 64


@dataclass(frozen=True)
class Sizes:
    layers: int = 12
    width: int = 640
    vocabulary: int = 32_000
    tokens: int = 128
    """Read, and as many written."""

    @property
    def mlp(self) -> int:
        return self.width * 27 // 10

    @property
    def read_per_token(self) -> int:
        """Weights."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.mlp) + self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        return self.read_per_token + self.vocabulary * self.width + (2 * self.layers + 1) * self.width


def run(runs: int) -> tuple[str, dict[str, Any]]:
    given = os.environ.get("LMGRAFT_BENCH_SIZES")
    sizes = Sizes(*map(int, given.split(","))) if given else Sizes()
    result: dict[str, Any] = {"parameters": sizes.parameters, "gb_per_second": _reads(), "cases": {}}
    with tempfile.TemporaryDirectory(prefix="bench-generate-") as name:
        folder = Path(name)
        _model(sizes, folder / "model")
        for batch in BATCHES:
            _prompts(sizes, batch, folder / f"{batch}.json")
        for precision in PRECISIONS:
            for batch in BATCHES:
                case = _case(folder, precision, batch, sizes, runs)
                if batch == 1:
                    case["ceiling"] = result["gb_per_second"] * 1e9 / (sizes.read_per_token * _bytes(precision))
                result["cases"][f"{precision}, {batch}"] = case
    return _table(sizes, result, runs), _summary(result)


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """What all benches tell, of the case in which we are least ahead, and then all of them."""
    name, least = min(result["cases"].items(), key=lambda item: item[1]["ratio"])
    peer = f"transformers, {least['cache']} cache"
    return {
        "name": "generate",
        "equal": True,  # it had ended otherwise
        "case": name,
        "ours": least["ours"]["tokens_per_second"],
        "peers": {peer: least["peer"]["tokens_per_second"]},
        "ratio": least["ratio"],
        "unit": "tokens per second",
        "peak_mb": {"lmgraft": least["ours"]["peak_mb"], peer: least["peer"]["peak_mb"]},
        **result,
    }


def _case(folder: Path, precision: str, batch: int, sizes: Sizes, runs: int) -> dict[str, Any]:
    """Sides in turn, after one run of each to see that the ids are equal and which cache is the peer's better one."""
    asked = [folder / "model", precision]
    ours = [sys.executable, "-m", "bench._generate_ours", *asked, "-", folder / f"{batch}.json"]
    peer = [peer_python("generate"), HERE / "peers" / "generate_steps.py", *asked]
    sides = {"ours": ours, **{name: [*peer, name, folder / f"{batch}.json"] for name in ("dynamic", "static")}}
    first = {name: _told(command) for name, command in sides.items()}
    ids = first["ours"]["ids"]
    case = f"{precision}, {batch} at once"
    for name, told in first.items():
        _same(ids, told["ids"], f"{case}: {name}")
    if [len(row) for row in ids] != [sizes.tokens] * batch:
        raise SystemExit(f"{case}: not every text has {sizes.tokens} tokens")
    better = min(("dynamic", "static"), key=lambda name: first[name]["seconds"])
    found: dict[str, list[dict[str, Any]]] = {"ours": [], better: []}
    for _ in range(runs):
        for name in found:
            found[name].append(_told(sides[name]))
            _same(ids, found[name][-1]["ids"], f"{case}: {name}")
    tokens = batch * sizes.tokens
    told = {"ours" if name == "ours" else "peer": _side(rows, tokens) for name, rows in found.items()}
    ratio = told["ours"]["tokens_per_second"] / told["peer"]["tokens_per_second"]
    return {**told, "cache": better, "ratio": ratio, "distinct_ids": len(set(chain(*ids)))}


def _same(ids: list[list[int]], others: list[list[int]], who: str) -> None:
    if others != ids:
        equal = sum(mine == theirs for mine, theirs in zip(chain(*ids), chain(*others), strict=False))
        raise SystemExit(f"{who} writes other ids; {equal} are equal")


def _told(command: list[str | Path]) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    found: Run = once(command, {**env, "PYTHONPATH": str(HERE.parent)})
    return {**json.loads(found.out.splitlines()[-1]), "peak_mb": found.peak_mb}


def _side(rows: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    seconds = [row["seconds"] for row in rows]
    return {
        "tokens_per_second": tokens / statistics.median(seconds),
        "slowest": tokens / max(seconds),
        "fastest": tokens / min(seconds),
        "first_token_seconds": statistics.median(row["first"] for row in rows),
        "peak_mb": max(row["peak_mb"] for row in rows),
    }


def _bytes(precision: str) -> int:
    return 4 if precision == "float32" else 2


def _reads() -> float:
    """GB/s at which two threads read, the best of ten sums over a gigabyte; in a process of its own."""
    code = f"""
import time, torch
torch.set_num_threads({THREADS})
x = torch.ones(1 << 28)
times = []
for _ in range(10):
    started = time.perf_counter(); x.sum(); times.append(time.perf_counter() - started)
print(4 * len(x) / min(times) / 1e9)
"""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _model(sizes: Sizes, folder: Path) -> None:
    """A folder that both sides load. Embeddings of deviation 0.5, so that a token is heard through all layers."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, deviation: float = 0.02) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * deviation

    embedding = random(sizes.vocabulary, sizes.width, deviation=0.5)
    # One cycle through all tokens: a text of any length never meets a token twice unless a layer says so.
    cycle = torch.randperm(sizes.vocabulary, generator=generator)
    head = torch.empty_like(embedding)
    head[cycle.roll(-1)] = embedding[cycle] * 0.04
    tensors = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": torch.ones(sizes.width),
    }
    shapes = {f"self_attn.{part}_proj": (sizes.width, sizes.width) for part in "qkvo"}
    shapes |= {"mlp.gate_proj": (sizes.mlp, sizes.width), "mlp.up_proj": (sizes.mlp, sizes.width)}
    shapes["mlp.down_proj"] = (sizes.width, sizes.mlp)
    for layer in range(sizes.layers):
        for name, shape in shapes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = random(*shape, deviation=0.026)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = 1 + random(sizes.width, deviation=0.1)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    heads = sizes.width // HEAD
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": HEAD,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _prompts(sizes: Sizes, batch: int, file: Path) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(0, sizes.vocabulary, (batch, sizes.tokens), generator=generator).tolist()
    file.write_text(json.dumps({"prompts": prompts, "new": sizes.tokens}), encoding="utf-8")


def _table(sizes: Sizes, result: dict[str, Any], runs: int) -> str:
    lines = ["| precision, texts | | tokens/s | spread | first token s | peak MB | |", "|---|---|---|---|---|---|---|"]
    for name, case in result["cases"].items():
        for side in ("ours", "peer"):
            row = case[side]
            label = "lmgraft" if side == "ours" else f"transformers, {case['cache']} cache"
            spread = f"{row['slowest']:,.1f} to {row['fastest']:,.1f}"
            last = f"**{case['ratio']:.2f} times**" if side == "ours" else ""
            lines.append(
                f"| {name} | {label} | {row['tokens_per_second']:,.1f} | {spread} | {row['first_token_seconds']:.3f} |"
                f" {row['peak_mb']:,.0f} | {last} |"
            )
        if "ceiling" in case:
            lines.append(f"| {name} | ceiling of reading the weights | {case['ceiling']:,.1f} | | | | |")
    lines += [
        "",
        f"{result['parameters'] / 1e6:.1f} million parameters, {sizes.tokens} tokens read and {sizes.tokens} written,"
        f" greedy, all ids equal on both sides. Memory is read at {result['gb_per_second']:.0f} GB/s. Medians"
        f" of {runs}, in turn. {THREADS} threads, {machine()}, {time.strftime('%Y-%m-%d')}.",
    ]
    return "\n".join(lines)
