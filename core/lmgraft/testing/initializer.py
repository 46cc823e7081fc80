"""The suite of the door ``initializer``: one tensor after another, of every role."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape
from lmgraft.testing.common import PartSuite
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.suite import disturb_random_numbers

if TYPE_CHECKING:
    import torch

__all__ = ["InitializerSuite"]

_SHAPES: dict[Role, tuple[tuple[int, ...], ...]] = {
    Role.EMBEDDING: ((50, 16), (7, 16)),
    Role.POSITION: ((32, 16),),
    Role.HEAD: ((50, 16),),
    Role.NORM: ((16,),),
    Role.QUERY: ((16, 16), (32, 16)),
    Role.KEY: ((8, 16), (1, 16)),
    Role.VALUE: ((8, 16), (1, 16)),
    Role.ATTENTION_OUT: ((16, 16), (16, 32)),
    Role.MLP_IN: ((48, 16),),
    Role.MLP_GATE: ((48, 16),),
    Role.MLP_OUT: ((16, 48),),
    Role.BIAS: ((16,), (48,)),
    Role.ADAPTER: ((4, 16), (16, 4)),
    Role.OTHER: ((16,), (4, 16), (6, 1, 3)),
}
_OUTSIDE = (Role.EMBEDDING, Role.POSITION, Role.HEAD)
_MODELS = (ModelShape(layers=1, hidden=16), ModelShape(layers=4, hidden=16), ModelShape(layers=48, hidden=16))

#: Role, shape of the tensor, model, and the seed of its generator.
_Case = tuple[TensorRole, tuple[int, ...], ModelShape, int]


class InitializerSuite(PartSuite):
    """Holds an initializer to the rules of :mod:`lmgraft.seams.initializer`: tensors of every role and of several
    shapes, outside the stack and in its first and last block, of models of one to 48 blocks."""

    seam = "initializer"

    def behaviour(self, part: Any) -> Any:
        return {name: tensor.numpy().tobytes() for name, tensor in _filled(part, _cases()).items()}

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_fills_everything(self) -> None:
        """every role and shape is filled in place with finite numbers, whatever stood there"""
        part = self.build()
        found = {before: _filled(part, _cases(), before) for before in (float("nan"), 0.0, 7.0)}
        first, *others = found.values()
        for name, tensor in first.items():
            self.require(
                bool(tensor.isfinite().all()),
                f"{self.name} leaves {name} unfilled, or fills it with what is no number",
                "the tensor held NaN before and does not hold finite numbers alone afterwards",
                "fill in place for every role, OTHER and vectors too: tensor.zero_(), tensor.normal_(...), "
                "tensor.copy_(...); `tensor = ...` fills nothing",
            )
            self.require(
                all(bool((tensor == other[name]).all()) for other in others),
                f"{self.name} fills {name} by what stood there before",
                "the tensor is fresh memory with any content",
                "overwrite it: tensor.zero_() or tensor.copy_(...), not tensor.mul_(...) or tensor.add_(...)",
            )

    def test_draws_from_its_generator_only(self) -> None:
        """the generator decides, and nothing that others share: theirs are neither read nor moved"""
        import torch

        part = self.build()
        disturb_random_numbers(3)
        first = _filled(part, _cases())
        disturb_random_numbers(4)
        before = torch.get_rng_state()
        second = _filled(part, _cases())
        moved = not bool((before == torch.get_rng_state()).all())
        differing = next((name for name in first if bool((first[name] != second[name]).any())), "")
        self.require(
            not differing and not moved,
            f"{self.name} draws {differing or 'some tensor'} from torch's global generator",
            "its weights then depend on whatever was drawn before",
            "give generator=generator to every call that draws: tensor.normal_(0, std, generator=generator), "
            "torch.nn.init.orthogonal_(tensor, generator=generator)",
        )
        other = _filled(part, _cases(shift=1))
        self.require(
            any(bool((first[name] != other[name]).any()) for name in first),
            f"{self.name} gives the same weights for every seed",
            "no tensor changes with its generator, so rows start equal and stay so",
            "draw matrices from the generator",
        )

    def test_order_is_irrelevant(self) -> None:
        """tensors in another order, or alone, are filled alike"""
        part = self.build()
        cases = list(_cases())
        first, turned = _filled(part, cases), _filled(part, cases[::-1])
        some = _filled(self.build(), cases[1::3])
        for other, how in ((turned, "after others"), (some, "among fewer")):
            differing = next((name for name in other if bool((first[name] != other[name]).any())), "")
            self.require(
                not differing,
                f"{self.name} fills {differing} otherwise when it comes {how}",
                "a layout fills the tensors that it holds, in an order of its own",
                "keep nothing from one call of fill to the next",
            )

    def test_learning_rates(self) -> None:
        """where it has rules for learning rates, each is a number above 0 that role, shape and model decide"""
        import math

        part, other = self.build(), self.build()
        if not hasattr(part, "lr_scale"):
            raise NotApplicable(f"{self.name} has no rules for learning rates")
        cases = list(_named(_cases()))
        first = {name: part.lr_scale(role, shape, model) for name, role, shape, model, _ in cases}
        for name, factor in first.items():
            self.require(
                isinstance(factor, float | int) and math.isfinite(factor) and factor > 0,
                f"{self.name} gives {name} the learning rate {factor!r}",
                "a parameter's learning rate is so many times the step's",
                "return a number above 0 from lr_scale(role, size, shape) for every role, OTHER and vectors too; 1 "
                "leaves the rate alone",
            )
        for name, role, shape, model, _ in reversed(cases):
            again = other.lr_scale(replace(role, lr_scale=3.0), list(shape), model)
            self.require(
                again == first[name],
                f"{self.name} gives {name} another learning rate when it is asked again",
                f"{first[name]!r} at first, {again!r} in another order: each layout and each resumed run asks anew",
                "let role.role, role.layer, the size and the model's shape decide, and nothing that is kept between "
                "calls; role.lr_scale is what you are asked for",
            )

    def test_tensor_stays_what_it_is(self) -> None:
        """the tensor keeps its memory, shape and type, and asks for no gradient"""
        import torch

        part = self.build()
        for name, role, shape, model, seed in _named(_cases()):
            tensor = torch.zeros(shape)
            place = tensor.data_ptr()
            with torch.no_grad():
                part.fill(tensor, role, model, torch.Generator().manual_seed(seed))
            kept = tensor.data_ptr() == place and tuple(tensor.shape) == shape and tensor.dtype is torch.float32
            self.require(
                kept and not tensor.requires_grad,
                f"{self.name} changes what {name} is",
                f"it was float32 {shape} and is {tensor.dtype} {tuple(tensor.shape)}, in its own memory: "
                f"{tensor.data_ptr() == place}, with gradient: {tensor.requires_grad}",
                "write numbers into it: tensor.copy_(values); no tensor.data = ..., no resize_",
            )


def _cases(shift: int = 0) -> Iterator[_Case]:
    seed = 100 + 1000 * shift
    for model in _MODELS:
        for role, shapes in _SHAPES.items():
            for layer in (None,) if role in _OUTSIDE else sorted({0, model.layers - 1}):
                for shape in shapes:
                    seed += 1
                    yield TensorRole(role, layer), shape, model, seed


def _named(cases: Iterable[_Case]) -> Iterator[tuple[str, TensorRole, tuple[int, ...], ModelShape, int]]:
    for role, shape, model, seed in cases:
        where = f"of {model.layers} blocks" if role.layer is None else f"in block {role.layer} of {model.layers}"
        yield f"the {role.role.value} {shape} {where}", role, shape, model, seed


def _filled(part: Any, cases: Iterable[_Case], before: float = float("nan")) -> dict[str, torch.Tensor]:
    import torch

    found = {}
    with torch.no_grad():
        for name, role, shape, model, seed in _named(cases):
            tensor = torch.full(shape, before)
            part.fill(tensor, role, model, torch.Generator().manual_seed(seed))
            found[name] = tensor
    return found
