from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.errors import Problem, UserError
from lmgraft.registry import registry
from lmgraft.seams.architecture import DecoderSpec
from lmgraft_megatron.plugin import MegatronConfig, lmgraft_parallelism
from lmgraft_megatron.refusals import asked_only, expressible
from megatron_cases import part
from torch import distributed

SPEC = DecoderSpec(layers=6, hidden=64, heads=4, kv_heads=2, head_dim=16, mlp=96, context=32)


def facts(spec: DecoderSpec | None, ranks: int | None = None, **layout: Any) -> list[Problem]:
    config = MegatronConfig(**layout)
    return list(expressible(spec, config, ranks or config.size()))


@pytest.mark.parametrize(
    ("changes", "layout", "said", "remedy"),
    [
        ({"heads": 9, "kv_heads": 3}, {"tensor": 4}, "3 kv_heads", "parallelism.tensor=3"),
        ({"kv_heads": 4}, {"tensor": 3}, "4 heads", "parallelism.tensor=2"),
        ({"heads": 12, "kv_heads": 4}, {"tensor": 6}, "4 kv_heads", "parallelism.tensor=4"),
        ({"heads": 4, "kv_heads": 1, "head_dim": 9}, {"tensor": 4}, "1 kv_heads", "parallelism.tensor=1"),
        ({"mlp": 95}, {"tensor": 2}, "95 mlp", "parallelism.tensor=1"),
        ({}, {"pipeline": 4}, "6 layers", "parallelism.pipeline=3"),
        ({"positions": "alibi"}, {}, "ALiBi", "parallelism=ddp"),
        ({"embedding_norm": True}, {}, "right after the embedding", "parallelism=ddp"),
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
    assert facts(SPEC, tensor=4) == []  # two ranks share a key head
    assert facts(replace(SPEC, kv_heads=1, parallel_block=True, window=8), tensor=2) == []
    assert facts(replace(SPEC, parallel_block=True, shared_norm=False), tensor=2) == []
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
    assert "heads" in next(iter(MegatronConfig(tensor=3).check_recipe(fits, "pretrain"))).cause  # type: ignore[union-attr]
    for without in (architecture(), architecture(spec=lambda: None)):
        (said,) = MegatronConfig().check_recipe(recipe(without), "pretrain")
        assert said.fact == "pretrain.architecture: megatron cannot build some"  # type: ignore[union-attr]
        assert "decoder spec" in said.cause  # type: ignore[union-attr]
    (said,) = MegatronConfig().check_recipe(recipe(architecture(spec=lambda: SPEC), device="mps"), "pretrain")
    assert "mps" in said.fact  # type: ignore[union-attr]
    (said,) = MegatronConfig(tensor=2, ranks=8).check_recipe(
        recipe(architecture(spec=lambda: SPEC), batch=3), "pretrain"
    )
    assert "4 ranks read different data" in said.cause  # type: ignore[union-attr]


def test_weights_of_8_bits_are_refused() -> None:
    (said,) = asked_only("int8")
    assert "int8" in said.fact
    assert list(asked_only("bfloat16")) == []


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("bloom", {}, "ALiBi), nor for a norm right after the embedding"),
        ("mixtral", {}, "mixture of experts"),
        ("lstm", {}, "no decoder spec, from which"),
    ],
)
def test_families_are_refused_when_composed_and_when_built(name: str, settings: dict[str, Any], said: str) -> None:
    """In three lines each, and before anything of megatron-core is made."""
    from lmgraft_megatron.megatron import _Body

    config = registry().get("architecture", name).component.config(**settings)
    config.part = name
    composed = list(MegatronConfig().check_recipe(recipe(config), "pretrain"))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        plan: Any = SimpleNamespace(architecture=part("architecture", name, **settings), precision="float32")
        with pytest.raises(UserError) as raised:
            _Body(MegatronConfig(), lambda make: None, "cpu").engine(plan)
    finally:
        distributed.destroy_process_group()
    for problems in (composed, raised.value.problems):
        (problem,) = problems
        assert problem.fact
        assert said in problem.cause
        assert "parallelism=ddp" in problem.remedy


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
