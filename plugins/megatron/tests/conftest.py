"""Every layout is started once and goes through all cases; single gives what they are compared with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # spawned ranks import the cases by name

from megatron_cases import Case, Train, part

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "single": ("single", {}),
    "ddp": ("ddp", {"ranks": 2}),
    "tp2": ("megatron", {"tensor": 2}),
    "pp2": ("megatron", {"pipeline": 2}),
    "sp": ("megatron", {"tensor": 2, "sequence_parallel": True}),
    "tp2_pp2": ("megatron", {"tensor": 2, "pipeline": 2}),
    "dp2": ("megatron", {"ranks": 2}),
    "tp2_dp2": ("megatron", {"tensor": 2, "ranks": 4, "distributed_optimizer": True}),
    "pp2_dp2": ("megatron", {"pipeline": 2, "ranks": 4, "distributed_optimizer": True}),
}
CASES = {
    f"{model}-{objective}": Case(model, objective)
    for model, objective in (
        ("llama", "causal_lm"),
        ("llama", "sft"),
        ("llama", "dpo"),
        ("gpt2", "causal_lm"),
        ("gpt2", "sft"),
        ("gpt2", "dpo"),
        ("llama_tied", "causal_lm"),
        ("llama_bare", "causal_lm"),
        ("llama", "everything"),
    )
}
#: Other blocks and other attention, where they meet tensor parallelism.
OTHERS = ("falcon-causal_lm", "falcon-sft", "falcon_two-causal_lm", "window-causal_lm", "stretched-causal_lm")
BESIDE = ("single", "tp2", "sp", "tp2_pp2")
CASES |= {name: Case(*name.split("-")) for name in OTHERS}
CASES |= {f"{model}-half": Case(model, steps=5, precision="bfloat16") for model in ("llama", "gpt2_bare")}
#: Data parallelism repeats what the others show; a few cases do.
FEW = ("llama-causal_lm", "llama_tied-causal_lm", "llama-everything", "gpt2-sft", "llama-half", "gpt2_bare-half")


def cases(layout: str) -> dict[str, Case]:
    there = {name: case for name, case in CASES.items() if name in FEW or layout not in ("ddp", "dp2", "tp2_dp2")}
    # The distributed optimizer meets weights of which some ranks have no rows.
    more = {"falcon-causal_lm": CASES["falcon-causal_lm"]} if layout == "tp2_dp2" else {}
    return {name: case for name, case in there.items() if name not in OTHERS or layout in BESIDE} | more


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(layout: str, work: Any) -> None:
    """Runs ``work`` under a layout."""
    name, settings = LAYOUTS[layout]
    part("parallelism", name, threads=1, **settings).launch(work)


@pytest.fixture(scope="session")
def launch() -> Callable[[str, Any], None]:
    return start


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a layout that went through all cases; each layout does so once."""
    done: dict[str, Path] = {}

    def folder(layout: str) -> Path:
        if layout not in done:
            done[layout] = tmp_path_factory.mktemp(layout)
            start(layout, Train(cases(layout), done[layout]))
        return done[layout]

    return folder
