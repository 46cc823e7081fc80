"""8-bit weights: how far they are from what they stand for, and that every way of computing gives one product."""

from __future__ import annotations

import pytest
import torch
from lmgraft.training import int8
from lmgraft.training.int8 import Int8Linear, dequantise, int8_product, projections, quantise, quantize_
from torch import nn
from torch.nn import functional


def weight(rows: int = 48, columns: int = 40, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.logspace(-6, 3, rows)[:, None]


def test_each_weight_moves_by_half_a_scale_at_most_and_the_scale_is_its_rows():
    given = weight()
    levels, scale = quantise(given)
    assert levels.dtype is torch.int8
    assert scale.dtype is torch.bfloat16
    assert scale.shape == (48,)
    error = (dequantise(levels, scale).double() - given.double()).abs().amax(1)
    assert bool((error <= scale.double() * 0.5000001).all())
    largest = given.abs().amax(1)
    # bfloat16 has 8 bits of mantissa: rounded up, a scale is at most 1/128 above.
    assert bool((scale.float() >= largest / 127).all())
    assert bool((scale.float() <= largest / 127 * (1 + 1 / 127)).all())
    assert int(levels.abs().max()) <= 127
    assert bool((levels.abs().amax(1) >= 126).all())


def test_zeros_stay_zeros_and_what_is_not_finite_shows():
    given = torch.zeros(3, 4)
    given[1, 2] = float("inf")
    given[2, 0] = float("nan")
    found = dequantise(*quantise(given))
    assert bool((found[0] == 0).all())
    assert not bool(found[1].isfinite().all())
    assert not bool(found[2].isfinite().all())


def test_an_outline_has_the_shapes_and_no_memory():
    levels, scale = quantise(torch.empty(5, 7, device="meta"))
    assert (levels.shape, levels.dtype, scale.shape) == ((5, 7), torch.int8, (5,))
    assert levels.is_meta


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("rows", [1, 16, 40, 70, 256])
@pytest.mark.parametrize("size", [(48, 48), (37, 33), (5, 40), (6, 128)])
def test_all_ways_give_one_product(monkeypatch, native: bool, rows: int, size: tuple[int, int]):
    monkeypatch.setattr(int8, "_native", lambda: native)
    given = weight(*size) / torch.logspace(-6, 3, size[0])[:, None]
    levels, scale = quantise(given)
    x = torch.randn(rows, size[1], generator=torch.Generator().manual_seed(1))
    exact = functional.linear(x.double(), dequantise(levels, scale).double())
    assert torch.allclose(int8_product(x, levels, scale).double(), exact, atol=1e-4)
    half = x.bfloat16()
    of_half = functional.linear(half.double(), dequantise(levels, scale).double())
    found = int8_product(half, levels, scale)
    assert found.dtype is torch.bfloat16
    # One or two roundings to bfloat16 of a sum that is exact to float32.
    assert float((found.double() - of_half).abs().max()) <= float(of_half.abs().max()) * 2**-7


def test_few_rows_go_to_the_packed_kernel(monkeypatch):
    called = []
    kernel = torch._weight_int8pack_mm
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda *given: called.append(1) or kernel(*given))
    levels, scale = quantise(weight(columns=48))
    int8_product(torch.ones(1, 48).bfloat16(), levels, scale)
    assert len(called) == 1
    int8_product(torch.ones(1, 48), levels, scale)
    int8_product(torch.ones(256, 48).bfloat16(), levels, scale)
    # Its rows are no whole number of the kernel's vectors: read there, they would end in the next one's memory.
    int8_product(torch.ones(1, 40).bfloat16(), *quantise(weight(columns=40)))
    assert len(called) == 1


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_gradient_is_that_of_the_dequantised_weight(kind: torch.dtype):
    levels, scale = quantise(weight() / torch.logspace(-6, 3, 48)[:, None])
    x = torch.randn(2, 3, 40).to(kind).requires_grad_()
    g = torch.randn(2, 3, 48).to(kind)
    int8_product(x, levels, scale).backward(g)
    plain = x.detach().float().requires_grad_()
    functional.linear(plain, dequantise(levels, scale)).backward(g.float())
    assert x.grad is not None
    assert plain.grad is not None
    assert x.grad.shape == x.shape
    bound = 1e-4 if kind is torch.float32 else float(plain.grad.abs().max()) * 2**-6
    assert torch.allclose(x.grad.float(), plain.grad, atol=bound)


def test_the_module_answers_as_the_linear_of_its_weight():
    torch.manual_seed(0)
    linear = nn.Linear(40, 48)
    made = Int8Linear.of(linear)
    x = torch.randn(2, 5, 40)
    assert torch.allclose(made(x), functional.linear(x, made.weight, linear.bias), atol=1e-5)
    assert set(made.state_dict()) == {"levels", "scale", "bias"}
    assert [name for name, _ in made.named_parameters()] == ["bias"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(x).dtype is torch.bfloat16
    fast = Int8Linear.of(linear, compute=torch.bfloat16)
    assert fast(x).dtype is torch.float32
    assert torch.allclose(fast(x), made(x), atol=0.05)


def test_made_by_sizes_it_takes_a_stored_state():
    made = Int8Linear.of(nn.Linear(6, 4))
    other = Int8Linear(6, 4, bias=True)
    other.load_state_dict(made.state_dict())
    x = torch.randn(3, 6)
    assert torch.equal(other(x), made(x))


class Own(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Own(8, 8, bias=False)
        self.inner = nn.ModuleDict({"second": nn.Linear(8, 8)})
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.inner["second"](self.first(x)))


@pytest.mark.parametrize(
    ("which", "replaced"),
    [
        (["first"], {"first"}),
        (["inner.second", "norm"], {"inner.second"}),
        (lambda name, part: part.bias is None, {"first"}),
        (lambda name, part: True, {"first", "inner.second"}),
    ],
)
def test_only_what_is_named_is_replaced(which, replaced):
    torch.manual_seed(0)
    module = Two()
    x = torch.randn(3, 8)
    before = module(x)
    quantize_(module, which)
    assert {name for name, part in module.named_modules() if isinstance(part, Int8Linear)} == replaced
    assert torch.allclose(module(x), before, atol=0.1)
    assert not torch.equal(module(x), before)


def test_projections_of_a_decoder_leave_head_and_embeddings_unless_asked():
    from lmgraft_decoders.architecture import Llama
    from lmgraft_decoders.plugin import LlamaConfig

    def named(head: bool, tied: bool) -> list[str]:
        part = Llama(LlamaConfig(hidden=16, layers=1, heads=2, kv_heads=1, mlp=32, context=8, tied=tied))
        return projections(part.build(20), part, head=head)

    layer = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    own = [f"model.layers.0.{name}" for name in layer]
    assert named(False, False) == own
    assert named(True, False) == [*own, "lm_head"]
    assert named(True, True) == own
