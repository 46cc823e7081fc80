"""What an architecture says of its parameters, and how it goes to a Hugging Face folder and comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Architecture, DecoderSpec, Role, TensorRole
from lmgraft.testing import modules
from lmgraft.testing._architecture_base import ArchitectureBase
from lmgraft.testing.difference import difference
from lmgraft.training import weights

__all__ = ["ArchitectureFiles"]

_VECTORS = (Role.NORM, Role.BIAS)
_OF_VOCABULARY = (Role.EMBEDDING, Role.HEAD)


class ArchitectureFiles(ArchitectureBase):
    """Names, roles, sizes and files."""

    # --- parameters -------------------------------------------------------------------------------------------------

    def test_parameter_count(self) -> None:
        """the model folder holds every parameter once; a decoder's names and shapes are those of its spec"""
        part = self.build()
        module = self.module(part)
        own = weights.canonical(module)
        weights.export(self.folder / "model", own, part, self.vocab_size)
        here, there = sum(one.numel() for one in own.values()), checkpoint.parameters(self.folder / "model")
        self.require(
            here == there,
            f"{self.name} has {here:,} parameters, and its model folder {there:,}",
            "a weight is lost, or stands in the file twice",
            "let to_hub give every canonical tensor once, and tie_word_embeddings in hub_config be as the module is",
        )
        spec = part.spec()
        if spec is not None:
            self._as_the_spec_says(part, spec, {name: tuple(one.shape) for name, one in module.named_parameters()})

    def _as_the_spec_says(self, part: Architecture, spec: DecoderSpec, own: dict[str, tuple[int, ...]]) -> None:
        expected = modules.decoder_shapes(spec, self.vocab_size)
        remedy = "use the names of lmgraft.seams.architecture.DECODER_NAMES, or let spec() give None"
        wrong = sorted(name for name in own.keys() | expected.keys() if own.get(name) != expected.get(name))
        first = wrong[0] if wrong else ""
        self.require(
            not wrong,
            f"{self.name}: {first} is {own.get(first, 'not there')}; its spec has {expected.get(first, 'none of it')}",
            "another engine builds the same model from the spec and looks for its weights by these names",
            remedy,
        )
        config = self.compose()
        said = getattr(config, "spec", lambda: None)()
        self.require(
            said == spec and "decoder_spec" in config.provides(),
            f"the settings of {self.name} do not tell its spec",
            f"their spec() gives {said}, and provides() {', '.join(sorted(config.provides())) or 'nothing'}",
            "give the config class spec() too, and 'decoder_spec' in provides(): layouts ask before torch is imported",
        )
        fact = f"{self.name}: context() is {part.context()}, and that of its spec {spec.context}"
        self.require(part.context() == spec.context, fact, "both are the longest sequence", "return spec().context")

    def test_roles(self) -> None:
        """every parameter has a role that fits its shape, and a layer within the stack"""
        part = self.build()
        named = dict(part.build(self.vocab_size).named_parameters())
        roles = {name: part.role(name) for name in named}
        layers = {one.layer for one in roles.values() if isinstance(one, TensorRole) and one.layer is not None}
        spec = part.spec()
        count = spec.layers if spec is not None else len(layers)
        for name, one in roles.items():
            self._role(name, one, tuple(named[name].shape))
        fact = f"{self.name} numbers its layers {', '.join(map(str, sorted(layers)))}"
        remedy = "TensorRole(role, layer) counts from 0 to layers - 1, and is None outside the stack"
        self.require(layers == set(range(count)), fact, f"it has {count} of them", remedy)
        offers, norms = self.compose().provides(), [name for name, one in roles.items() if one.role is Role.NORM]
        wrong = ("no_norm" in offers and norms) or ("norm" in offers and not norms)
        self.require(
            not wrong,
            f"{self.name} provides {', '.join(sorted(offers & {'norm', 'no_norm'}))}",
            f"parameters with the role of a norm: {', '.join(norms[:2]) or 'none'}",
            "provide 'norm' where there are norms and 'no_norm' where there are none: initializers ask for it",
        )

    def _role(self, name: str, one: Any, shape: tuple[int, ...]) -> None:
        remedy = "return TensorRole(Role.EMBEDDING), TensorRole(Role.QUERY, 3) ...; Role.OTHER where none fits"
        fact = f"{self.name}: role({name!r}) is {one!r}"
        fits = isinstance(one, TensorRole) and isinstance(one.role, Role)
        self.require(fits, fact, "initializers and optimizers go by it", remedy)
        fact = f"{self.name}: {name} of shape {shape} has the role {one.role.value}"
        if one.role in _VECTORS:
            self.require(len(shape) == 1, fact, "gains and biases are vectors, and spared from weight decay", remedy)
        elif one.role in _OF_VOCABULARY:
            right = len(shape) == 2 and shape[0] == self.vocab_size
            self.require(right, fact, f"such a matrix is ({self.vocab_size}, hidden) here", remedy)
        elif one.role is not Role.OTHER:
            cause = "a projection is (out, in), as nn.Linear has it; q, k and v stand apart"
            self.require(len(shape) == 2, fact, cause, remedy)

    # --- files ------------------------------------------------------------------------------------------------------

    def test_hub_round_trip(self) -> None:
        """to a Hugging Face folder and back not one bit changes"""
        part = self.build()
        own = weights.canonical(self.module(part))
        there: Mapping[str, torch.Tensor] = _translated(part, "to_hub", own)
        back = _translated(part, "from_hub", {name: there[name] for name in there})
        remedy = "to_hub and from_hub cut, join and transpose, and compute nothing"
        self.require(
            set(own) <= set(back),
            f"{self.name}: {min(set(own) - set(back), default='')} does not come back from to_hub",
            f"from_hub gives {', '.join(sorted(back)[:3])} ...",
            remedy,
        )
        changed = next((name for name in own if not torch.equal(own[name], back[name])), "")
        self.require(not changed, f"{self.name}: {changed} changes in to_hub and from_hub", "bits differ", remedy)
        weights.export(self.folder / "model", own, part, self.vocab_size)
        again = weights.materialise(part, self.vocab_size, "cpu")
        try:
            checkpoint.verify(self.folder / "model")
            weights.load_into(again, part, self.folder / "model")
        except UserError as error:
            first = error.problems[0]
            remedy = "let hub_config say tie_word_embeddings only where the module ties, and to_hub give every tensor"
            self.require(False, f"{self.name} does not load what it exports", f"{first.fact}: {first.cause}", remedy)
        read = weights.canonical(again)
        lost = next((name for name in own if not torch.equal(own[name], read[name])), "")
        self.require(not lost, f"{self.name}: {lost} changes on its way through a model folder", "bits differ", remedy)

    def test_hub_config(self) -> None:
        """config.json is a JSON object that names the model's kind, class and vocabulary"""
        config = self.build().hub_config(self.vocab_size)
        remedy = "hub_config returns text, numbers, true and false, None, lists and objects"
        try:
            back = json.loads(json.dumps(config))
        except (TypeError, ValueError) as error:
            self.require(False, f"hub_config() of {self.name} is no JSON", str(error), remedy)
        fact = f"hub_config() of {self.name} gives {str(config)[:60]}"
        self.require(isinstance(config, Mapping), fact, "config.json is a JSON object", remedy)
        self.require(back == config, f"hub_config() of {self.name} changes in JSON", difference(config, back), remedy)
        wrong = [key for key in ("model_type", "architectures", "vocab_size") if not config.get(key)]
        fact = f"hub_config() of {self.name} has no {', '.join(wrong)}"
        cause = "transformers, vLLM and lmgraft find by them what builds the model"
        self.require(not wrong, fact, cause, 'a model_type of your own where Hugging Face has none: "my_model"')
        fact = f"hub_config({self.vocab_size}) of {self.name} says vocab_size {config['vocab_size']}"
        self.require(config["vocab_size"] == self.vocab_size, fact, "it is the argument", "write the argument")


def _translated(part: Architecture, way: str, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    translate = getattr(part, way, None)
    found: Mapping[str, torch.Tensor] = translate(tensors) if translate else tensors
    return found
