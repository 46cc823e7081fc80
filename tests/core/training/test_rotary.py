"""Rotary angles beside transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import DecoderSpec, RopeScaling
from lmgraft.training.rotary import inverse_frequencies

THETA, WIDTH = 500_000.0, 128


def spec(scaling: RopeScaling | None = None) -> DecoderSpec:
    return DecoderSpec(
        layers=1,
        hidden=WIDTH,
        heads=1,
        kv_heads=1,
        head_dim=WIDTH,
        mlp=1,
        context=1,
        rope_theta=THETA,
        rope_scaling=scaling,
    )


def theirs(**scaling: Any) -> torch.Tensor:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=131_072,
        rope_parameters={"rope_theta": THETA, **scaling},
    )
    config.standardize_rope_params()
    frequencies, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    assert factor == 1.0
    return frequencies


def test_unscaled_ones_are_those_of_the_paper() -> None:
    found = inverse_frequencies(spec())
    assert found.dtype == torch.float32
    assert found.shape == (WIDTH // 2,)
    expected = torch.tensor([THETA ** (-2 * i / WIDTH) for i in range(WIDTH // 2)], dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0.0)


def test_linear_scaling_is_that_of_transformers() -> None:
    found = inverse_frequencies(spec(RopeScaling(kind="linear", factor=8.0)))
    torch.testing.assert_close(found, theirs(rope_type="linear", factor=8.0), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("numbers", [(8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (3.0, 2.0, 2.5, 1024)])
def test_llama3_scaling_is_that_of_transformers(numbers: tuple[float, float, float, int]) -> None:
    """Llama 3.1's and 3.2's numbers, and some of nobody's."""
    factor, low, high, original = numbers
    scaling = RopeScaling(
        kind="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_context=original
    )
    expected = theirs(
        rope_type="llama3",
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=original,
    )
    found, plain = inverse_frequencies(spec(scaling)), inverse_frequencies(spec())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.0)
    # Some pairs are left alone, some are stretched whole, some lie between.
    assert found[0] == plain[0]
    assert found[-1] == pytest.approx(plain[-1].item() / factor, rel=1e-6)
    assert ((found < 0.99 * plain) & (found > 1.01 * plain / factor)).any()


def test_another_kind_is_a_fault_and_meta_is_a_device() -> None:
    with pytest.raises(Fault, match="yarn"):
        inverse_frequencies(spec(RopeScaling(kind="yarn", factor=2.0)))
    assert inverse_frequencies(spec(), "meta").is_meta
