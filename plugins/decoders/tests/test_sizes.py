"""The sizes by name: counted from the spec, built here and by transformers, published; and their page in the docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.seams.architecture import Architecture
from lmgraft_decoders import architecture, counts, plugin
from omegaconf import OmegaConf

DOCS = Path(__file__).parents[3] / "docs"
sys.path.insert(0, str(DOCS))
from generator.models import PUBLISHED, Size, models, sizes  # noqa: E402

SIZES = {size.name: size for size in sizes()}
#: Of a rounded figure; ``7B`` and ``40B`` are names as much as figures.
ROUNDED = 0.04

every = pytest.mark.parametrize("name", list(SIZES))


def part_of(size: Size) -> Architecture:
    family, variant = size.name.split("/")
    component = next(each for each in plugin.lmgraft_architecture() if each.name == family)
    file = Path(plugin.__file__).parent / "conf" / "architecture" / family / f"{variant}.yaml"
    values = OmegaConf.load(file)
    assert values.pop("defaults") == [f"/architecture/{family}@_here_", "_self_"]
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(component.config), values))
    assert not list(config.check())
    found: Architecture = getattr(architecture, component.target.partition(":")[2])(config)
    return found


def test_every_variant_is_a_size_and_every_published_one_is_there() -> None:
    named = {f"{each.name}/{variant}" for each in plugin.lmgraft_architecture() for variant in each.variants}
    assert set(SIZES) == named
    assert set(PUBLISHED) == {name for name in named if not name.endswith("/tiny")}


@every
def test_the_counts_are_those_of_the_models_built(name: str) -> None:
    size = SIZES[name]
    part = part_of(size)
    assert part.spec() == size.spec
    named = {key: parameter.numel() for key, parameter in part.build(size.vocab).named_parameters()}
    assert counts.parameters(size.spec, size.vocab) == sum(named.values())
    idle = (size.spec.experts - size.spec.experts_per_token) / max(1, size.spec.experts)
    experts = sum(count for key, count in named.items() if ".experts." in key)
    assert counts.active_parameters(size.spec, size.vocab) == sum(named.values()) - experts * idle


@every
def test_transformers_builds_the_same_size_from_its_config(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    size = SIZES[name]
    written = part_of(size).hub_config(size.vocab)
    kind = getattr(transformers, written["architectures"][0])
    with torch.device("meta"):
        theirs = kind(kind.config_class(**written))
    theirs.tie_weights()
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert count == counts.parameters(size.spec, size.vocab)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_counts_are_those_published(name: str) -> None:
    told, size = PUBLISHED[name], SIZES[name]
    close(counts.parameters(size.spec, size.vocab), told.parameters)
    if told.active:
        close(counts.active_parameters(size.spec, size.vocab), told.active)
    if told.flops:
        assert counts.flops(size.spec, 0, size.vocab) == pytest.approx(told.flops, rel=0.05)


def close(count: int, told: str) -> None:
    found = re.fullmatch(r"([\d.,]+)([MB]?)", told)
    assert found is not None
    value = float(found[1].replace(",", "")) * {"": 1, "M": 1e6, "B": 1e9}[found[2]]
    assert count == (pytest.approx(value, rel=ROUNDED) if found[2] else value)


def test_the_page_of_the_docs_is_fresh() -> None:
    assert (DOCS / "models.md").read_text(encoding="utf-8") == models(), "python docs/generate.py"
