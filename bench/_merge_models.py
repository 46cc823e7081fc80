"""Model folders for ``bench merge``, and what says that two results are equal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["generate", "largest_difference", "same"]

SHARD_BYTES = 10**9


def generate(folder: Path, *, like: Path | None = None, seed: int = 0, dtype: str = "bfloat16", **shapes: int) -> None:
    """A Mistral of these shapes with normal weights, shard by shard: no two tensors are alike. ``like`` another one it
    is that one with small changes everywhere, as training leaves them."""
    import torch
    import transformers
    from safetensors.torch import save_file

    config = transformers.MistralConfig(dtype=dtype, **shapes)
    with torch.device("meta"):
        state = transformers.MistralForCausalLM(config).state_dict()
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    kind = getattr(torch, dtype)
    shards: list[list[str]] = [[]]
    for name in state:
        if sum(kind.itemsize * state[other].numel() for other in (*shards[-1], name)) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(name)
    random, weight_map = torch.Generator().manual_seed(seed), {}
    before = dict(_tensors(like)) if like is not None else {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        made = {}
        for name in names:
            made[name] = torch.randn(state[name].shape, generator=random, dtype=kind) * 0.02
            if before:
                made[name] = before[name].get_tensor(name) + made[name] * 0.1
        save_file(made, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, file))
    size = sum(kind.itemsize * tensor.numel() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def same(ours: Path, theirs: Path) -> int:
    """The number of tensors, where names, dtypes, shapes and bytes are equal; ends the bench where they are not."""
    import torch

    left, right = _both(ours, theirs)
    for name in sorted(left):
        a, b = left[name].get_tensor(name), right[name].get_tensor(name)
        if a.dtype != b.dtype or not torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
            raise SystemExit(f"the results differ in {name}: {a.dtype}, {b.dtype}")
    return len(left)


def largest_difference(ours: Path, theirs: Path) -> tuple[float, float]:
    """Of all numbers of two results: the largest difference, and the share of numbers that differ at all."""
    left, right = _both(ours, theirs)
    most, differ, count = 0.0, 0, 0
    for name in left:
        a, b = left[name].get_tensor(name), right[name].get_tensor(name)
        if a.dtype != b.dtype:
            raise SystemExit(f"the results differ in {name}: {a.dtype}, {b.dtype}")
        for one, two in zip(a.flatten().split(1 << 24), b.flatten().split(1 << 24), strict=True):
            gap = (one.float() - two.float()).abs()
            if not gap.isfinite().all():  # max() would pass a NaN over
                raise SystemExit(f"the results hold numbers in {name} that are not finite")
            most = max(most, gap.max().item())
            differ += int(gap.count_nonzero())
        count += a.numel()
    return most, differ / count


def _both(ours: Path, theirs: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    left, right = dict(_tensors(ours)), dict(_tensors(theirs))
    if left.keys() != right.keys():
        raise SystemExit(f"the results differ in tensors: {sorted(left.keys() ^ right.keys())}")
    for name in left:
        shapes = [side[name].get_slice(name).get_shape() for side in (left, right)]
        if shapes[0] != shapes[1]:
            raise SystemExit(f"the results differ in {name}: {shapes}")
    depths = [json.loads((side / "config.json").read_text())["num_hidden_layers"] for side in (ours, theirs)]
    if depths[0] != depths[1]:
        raise SystemExit(f"config.json tells of {depths} layers")
    return left, right


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name -> the open file that holds it."""
    from safetensors import safe_open

    for file in folder.glob("*.safetensors"):
        opened = safe_open(file, framework="pt")
        for name in opened.keys():  # noqa: SIM118
            yield name, opened
