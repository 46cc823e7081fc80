"""The suite of the door ``adapter``: a small model is adapted, trained for a few steps, saved, and folded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft.seams.adapter import Adapted
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.seams.optimizer import Optimizer
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.testing import modules
from lmgraft.testing._adapter_work import Decaying, Forgetful, bits, read, stored, trained
from lmgraft.testing.common import PartSuite
from lmgraft.testing.composing import compose_part
from lmgraft.testing.outcome import Nonconforming, NotApplicable
from lmgraft.testing.suite import disturb_random_numbers
from lmgraft.training import weights

__all__ = ["AdapterSuite"]

_FILL = "write numbers into it: tensor.uniform_(..., generator=generator), tensor.zero_(); all of it, and nothing else"
_METHODS = ("build", "role", "flops", "context", "hub_config", "spec", "to_hub", "from_hub", "fill_new")


class AdapterSuite(PartSuite):
    """Holds an adapter to the rules of :mod:`lmgraft.seams.adapter`, in a small model of ``architecture``."""

    seam = "adapter"
    architecture: ClassVar[str] = "llama"
    """The part that is adapted."""
    architecture_settings: ClassVar[Mapping[str, Any]] = {
        "layers": 2, "hidden": 16, "heads": 2, "kv_heads": 1, "mlp": 32, "context": 32,
    }  # fmt: skip
    """Its settings: of a model that is filled in a moment."""
    vocab_size: ClassVar[int] = 97
    """Entries of the vocabulary that models are built with."""
    start: ClassVar[float] = 1e-5
    """How far answers before training may be from the plain model's, absolute below 1 and relative above: the
    precision in which frozen weights are held."""
    tolerance: ClassVar[float] = 1e-5
    """How far the folded model's answers may be from the adapted one's."""

    def behaviour(self, part: Any) -> Any:
        adapted, module = self._trained(part)
        return {
            "answers": self._answers(module)["logprob"].numpy().tobytes(),
            "parameters": [[name, list(one.shape), str(adapted.role(name))] for name, one in module.named_parameters()],
            "flops": adapted.flops(16, self.vocab_size),
        }

    # --- what it is -------------------------------------------------------------------------------------------------

    def test_gives_an_architecture(self) -> None:
        """`adapt` gives an architecture with parameters of the role ADAPTER, no spec, and the inner one's config"""
        adapted, inner = self._adapted(self.build()), self._inner()
        with modules.allocations() as made:
            module = adapted.build(self.vocab_size)
        elsewhere = [name for name, one in module.named_parameters() if not one.is_meta]
        remedy = 'make what is added on the device that build is given, "meta" where none is'
        fact = f"{self.name}: {elsewhere[0] if elsewhere else 'a tensor'} is allocated by build(vocab_size)"
        self.require(not elsewhere and made.largest <= 1 << 16, fact, "building on meta must cost nothing", remedy)
        roles = {name: adapted.role(name).role for name, _ in module.named_parameters()}
        self.require(
            Role.ADAPTER in roles.values(),
            f"{self.name} adds nothing that is trained",
            f"no parameter is of Role.ADAPTER; there are {', '.join(sorted({role.value for role in roles.values()}))}",
            "role(name) gives TensorRole(Role.ADAPTER, layer) for what it adds, and asks the inner one for the others",
        )
        self.require(
            adapted.spec() is None,
            f"the adapted architecture of {self.name} has a spec",
            "another engine would build the model from it without the adapter",
            "spec() returns None",
        )
        same = "ask the architecture that was adapted"
        for words, mine, theirs in (
            ("hub_config", adapted.hub_config(self.vocab_size), inner.hub_config(self.vocab_size)),
            ("context", adapted.context(), inner.context()),
        ):
            self.require_equal(theirs, mine, f"{self.name}: {words} is not that of the model that comes out", same)
        flops = adapted.flops(16, self.vocab_size)
        self.require(flops > 0, f"{self.name}: flops is {flops}", "it is FLOPs a token while training", same)

    def test_untrained_it_changes_nothing(self) -> None:
        """before training, answers are the plain model's"""
        plain, ids = self._plain(), self._ids()
        module = self._loaded(self._adapted(self.build()))
        wrong = modules.unlike(self._answers(module), self._answers(plain), self.start)
        self.require(
            not wrong,
            f"{self.name} changes answers before it is trained",
            f"{wrong}, which is the plain model's; the {ids.numel()} tokens and the weights are the same",
            "start at nothing: one of two factors at 0, a gain at 1; `start` of the suite is what rounding may change",
        )

    def test_fills_everything_from_its_generator(self) -> None:
        """`fill_new` fills each parameter of the adapter, from its generator alone"""
        adapted = self._adapted(self.build())
        shapes = dict(self._own(adapted, adapted.build(self.vocab_size)))
        found = []
        for before, noise in ((float("nan"), 1), (7.0, 2)):
            disturb_random_numbers(noise)
            found.append({name: self._filled(adapted, name, shape, before) for name, shape in shapes.items()})
        for name, tensor in found[0].items():
            finite = bool(tensor.isfinite().all())
            self.require(finite, f"{self.name} leaves {name} unfilled", "it holds what was in memory", _FILL)
            self.require(
                torch.equal(tensor, found[1][name]),
                f"{self.name} fills {name} by what stood there, or by others' random numbers",
                "the same generator gave two tensors",
                _FILL,
            )

    # --- training ---------------------------------------------------------------------------------------------------

    def test_only_the_adapter_is_trained(self) -> None:
        """all of the adapter learns, and every other tensor keeps every bit"""
        adapted = self._adapted(self.build())
        module = self._loaded(adapted)
        before = bits(module)
        reached = trained(module, self._plan(adapted), self._batches())
        after, own = bits(module), {name for name, _ in self._own(adapted, module)}
        still = sorted(own - reached)
        self.require(
            not still,
            f"{self.name}: {still[0] if still else ''} does not learn",
            "in a few steps no gradient reaches it, or none but 0",
            "let the answers depend on it through the modules' forward, and not through a copy or `.data`",
        )
        moved = sorted(name for name in before if name not in own and before[name] != after[name])
        self.require(
            not moved,
            f"{self.name}: {moved[0] if moved else ''} is frozen and changes while the adapter is trained",
            "weights that are not of Role.ADAPTER are no business of the optimizer's, and forward is to leave them",
            "change nothing in place in forward",
        )

    def test_a_checkpoint_holds_it_all(self) -> None:
        """the module's own tensors, saved and loaded into another, give the same bits and answers"""
        adapted, module = self._trained(self.build())
        file = self.folder / "model.safetensors"
        stored(module, file)
        again = weights.materialise(adapted, self.vocab_size, "cpu").eval()
        read(file, again)
        wrong = modules.unlike(self._answers(again), self._answers(module), 0.0)
        self.require(
            not wrong and bits(again) == bits(module),
            f"{self.name} answers otherwise once its checkpoint is loaded",
            wrong or "a tensor has other bits",
            "keep all that decides an answer in parameters and persistent buffers",
        )

    def test_interrupted_it_goes_on_alike(self) -> None:
        """steps that are made after a kill, from the checkpoint of the one before, give the bits of an unbroken run"""
        whole, first, again = (self._adapted(self.build()) for _ in range(3))
        unbroken, broken = self._loaded(whole), self._loaded(first)
        batches, file = self._batches(), self.folder / "model.safetensors"
        trained(unbroken, self._plan(whole, Forgetful()), batches)
        trained(broken, self._plan(first, Forgetful()), batches[:2])
        stored(broken, file)
        resumed = weights.materialise(again, self.vocab_size, "cpu")
        read(file, resumed)
        disturb_random_numbers(4)
        trained(resumed, self._plan(again, Forgetful()), batches[2:], first=2)
        expected, found = bits(unbroken), bits(resumed)
        other = sorted(name for name in expected if expected[name] != found[name])
        self.require(
            not other,
            f"{self.name}: {other[0] if other else ''} is another after a kill than in an unbroken run",
            "the step that follows the checkpoint depends on what the steps before it left outside the tensors",
            "draw from torch's own generator alone, which is seeded before each step, and count nothing in forward",
        )

    # --- what comes out ---------------------------------------------------------------------------------------------

    def test_folded_it_answers_alike(self) -> None:
        """what is exported is a plain model of the inner architecture, with the adapted one's answers"""
        adapted, module = self._trained(self.build())
        inner, out = self._inner(), self.folder / "out"
        out.mkdir()
        weights.export(out, weights.canonical(module), adapted, self.vocab_size)
        plain = weights.materialise(inner, self.vocab_size, "cpu").eval()
        try:
            weights.load_into(plain, inner, out)
        except UserError as error:
            first = error.problems[0]
            remedy = "to_hub gives the inner architecture's tensors, each folded, and none of the adapter's"
            self.require(False, f"what {self.name} exports is no plain model: {first.fact}", first.cause, remedy)
        expected, apart = self._answers(module), modules.unlike
        wrong = apart(self._answers(plain), expected, self.tolerance)
        self.require(
            not wrong,
            f"what {self.name} exports answers otherwise than what was trained",
            f"{wrong}, which the adapted model gives",
            "fold what forward computes beside the weights into them, in float32, and into them as they are held",
        )
        self.require(
            bool(apart(expected, self._answers(self._plain()), self.tolerance)),
            f"{self.name} changes no answer, trained or not",
            "a few large steps left all answers as they were",
            "let the answers depend on the adapter's parameters",
        )

    def test_generation_sees_it(self) -> None:
        """a module that is made for generation answers as the adapted one does"""
        _, module = self._trained(self.build())
        made = getattr(module, "generation", None)
        if made is None or "next_logits" not in modules.answered(module):
            raise NotApplicable("its module has no generation()")
        ids, asks = self._ids(), frozenset({"next_logits"})
        with torch.no_grad():
            expected, found = module(ids, asks=asks).next_logits, made()(ids, asks=asks).next_logits
        wrong = modules.unlike({"next_logits": found}, {"next_logits": expected}, 10 * self.tolerance, "token")
        self.require(
            not wrong,
            f"{self.name}: generation() leaves the adapter out",
            wrong,
            "the inner module's generation() reads its weights alone: give a folded plain model's, as "
            "lmgraft.training.adapting does",
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _inner(self) -> Architecture:
        config = compose_part("architecture", self.architecture, self.architecture_settings, self.folder)
        made: Architecture = build(registry().get("architecture", self.architecture).component, config)
        return made

    def _adapted(self, part: Any) -> Adapted:
        try:
            adapted = part.adapt(self._inner())
        except UserError as error:
            first = error.problems[0]
            remedy = "choose another `architecture` in the suite, or settings that fit this one"
            raise Nonconforming(f"{self.name} refuses the kit's model: {first.fact}", first.cause, remedy) from error
        missing = [method for method in _METHODS if not callable(getattr(adapted, method, None))]
        self.require(
            not missing,
            f"what {self.name} makes of an architecture lacks {', '.join(missing)}",
            f"adapt() returned {type(adapted).__name__}",
            "derive it from lmgraft.training.adapting.AdaptedArchitecture, or write those of lmgraft.seams.adapter",
        )
        found: Adapted = adapted
        return found

    def _plain(self) -> nn.Module:
        return modules.filled(self._inner(), self.vocab_size, self.name, modules.draw)

    def _loaded(self, adapted: Adapted) -> nn.Module:
        """The adapted module with the plain one's weights, as an engine makes it."""
        folder = self.folder / "plain"
        if not folder.exists():
            folder.mkdir()
            weights.export(folder, weights.canonical(self._plain()), self._inner(), self.vocab_size)
        module = weights.materialise(adapted, self.vocab_size, "cpu")
        try:
            weights.load_into(module, adapted, folder, seed=3)
        except UserError as error:
            first = error.problems[0]
            remedy = "from_hub gives a plain folder's tensors under the adapted module's names, as load_into needs them"
            raise Nonconforming(f"{self.name} cannot load a plain model: {first.fact}", first.cause, remedy) from error
        return module.eval()

    def _trained(self, part: Any) -> tuple[Adapted, nn.Module]:
        adapted = self._adapted(part)
        module = self._loaded(adapted)
        trained(module, self._plan(adapted), self._batches())
        return adapted, module.eval()

    def _plan(self, adapted: Adapted, optimizer: Optimizer | None = None) -> EnginePlan:
        return EnginePlan(
            architecture=adapted, vocab_size=self.vocab_size, device="cpu", precision="float32", seed=3,
            weights=Path("plain"), optimizer=optimizer or Decaying(), trainable=frozenset({Role.ADAPTER}),
        )  # fmt: skip

    def _own(self, adapted: Adapted, module: nn.Module) -> list[tuple[str, torch.Size]]:
        named = module.named_parameters()
        return [(name, one.shape) for name, one in named if adapted.role(name).role is Role.ADAPTER]

    def _filled(self, adapted: Adapted, name: str, shape: torch.Size, before: float) -> torch.Tensor:
        tensor = torch.full(shape, before)
        with torch.no_grad():
            adapted.fill_new(name, tensor, torch.Generator().manual_seed(weights.tensor_seed(3, name)))
        return tensor

    def _ids(self, seed: int = 1) -> torch.Tensor:
        return modules.tokens(2, 12, self.vocab_size, seed)

    def _batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(self._ids(10 + step), self._ids(20 + step)) for step in range(3)]

    def _answers(self, module: nn.Module) -> dict[str, torch.Tensor]:
        return modules.answers(module, self._ids(), self._ids(2), ["logprob"])
