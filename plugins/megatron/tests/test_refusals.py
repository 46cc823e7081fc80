from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.errors import Problem
from lmgraft.seams.architecture import DecoderSpec
from lmgraft_megatron.plugin import MegatronConfig, lmgraft_parallelism
from lmgraft_megatron.refusals import expressible

SPEC = DecoderSpec(layers=6, hidden=64, heads=4, kv_heads=2, head_dim=16, mlp=96, context=32)


def facts(spec: DecoderSpec | None, ranks: int | None = None, **layout: Any) -> list[Problem]:
    config = MegatronConfig(**layout)
    return list(expressible(spec, config, ranks or config.size()))


@pytest.mark.parametrize(
    ("changes", "layout", "said", "remedy"),
    [
        ({}, {"tensor": 4}, "2 kv_heads", "parallelism.tensor=2"),
        ({"kv_heads": 4}, {"tensor": 3}, "4 heads", "parallelism.tensor=2"),
        ({"mlp": 95}, {"tensor": 2}, "95 mlp", "parallelism.tensor=1"),
        ({}, {"pipeline": 4}, "6 layers", "parallelism.pipeline=3"),
        ({"positions": "alibi"}, {}, "ALiBi", "parallelism=ddp"),
        ({"parallel_block": True}, {}, "parallel block", "parallelism=ddp"),
        ({"experts": 8}, {}, "experts", "parallelism=ddp"),
    ],
)
def test_what_does_not_divide_or_cannot_be_expressed(
    changes: dict[str, Any], layout: dict[str, Any], said: str, remedy: str
) -> None:
    problems = facts(replace(SPEC, **changes), **layout)
    assert [problem for problem in problems if said in problem.cause and remedy in problem.remedy]


def test_what_fits_is_not_refused() -> None:
    assert facts(SPEC, tensor=2, pipeline=3) == []
    assert facts(SPEC, ranks=12, tensor=2, pipeline=3) == []


def test_ranks_are_a_multiple_of_the_layout() -> None:
    (problem,) = facts(SPEC, ranks=6, tensor=2, pipeline=2)[:1]
    assert problem.fact == "6 ranks cannot be laid out"
    assert problem.remedy.endswith("ranks=8")
    assert "not a multiple" in next(MegatronConfig(tensor=2, ranks=3).check())
    assert len(list(MegatronConfig(tensor=0, pipeline=-1, ranks=0, threads=0).check())) == 4


def test_a_model_without_a_spec_is_refused() -> None:
    assert "decoder spec" in facts(None)[0].cause


def recipe(architecture: Any, device: str = "cpu", batch: int = 8) -> Any:
    part = SimpleNamespace(seam="architecture", path="pretrain.architecture", config=architecture)
    node = SimpleNamespace(parts=[part], config=SimpleNamespace(batch=batch))
    return SimpleNamespace(device=device, stage=lambda name: node)


def architecture(**methods: Any) -> Any:
    return SimpleNamespace(part="some", check=lambda: iter(()), **methods)


def test_a_recipe_is_refused_before_training() -> None:
    fits = recipe(architecture(spec=lambda: SPEC))
    assert list(MegatronConfig(tensor=2).check_recipe(fits, "pretrain")) == []
    assert "kv_heads" in next(iter(MegatronConfig(tensor=4).check_recipe(fits, "pretrain"))).cause  # type: ignore[union-attr]
    (said,) = MegatronConfig().check_recipe(recipe(architecture()), "pretrain")
    assert "some" in said.fact  # type: ignore[union-attr]
    (said,) = MegatronConfig().check_recipe(recipe(architecture(spec=lambda: SPEC), device="mps"), "pretrain")
    assert "mps" in said.fact  # type: ignore[union-attr]
    (said,) = MegatronConfig(tensor=2, ranks=8).check_recipe(
        recipe(architecture(spec=lambda: SPEC), batch=3), "pretrain"
    )
    assert "4 ranks read different data" in said.cause  # type: ignore[union-attr]


def test_ranks_come_from_the_setting_the_job_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert MegatronConfig(tensor=2, pipeline=2).size() == 4
    assert MegatronConfig(tensor=2).size(gpus=8) == 8
    assert MegatronConfig(tensor=3).size(gpus=8) == 3
    assert MegatronConfig(tensor=2, ranks=4).size(gpus=8) == 4
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert MegatronConfig(tensor=2).size(gpus=4) == 6


def test_the_light_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, lmgraft_megatron.plugin, lmgraft_megatron.refusals\n"
        "assert not {'torch', 'megatron', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_found_under_its_name_and_says_what_it_requires() -> None:
    (component,) = lmgraft_parallelism()
    assert component.name == "megatron"
    assert component.requires == ("megatron-core>=0.16,<0.17",)
    assert len(component.summary) <= 72
    assert MegatronConfig().needs() == {"decoder_spec"}
