"""What a layout cannot do, in three lines each, from sizes alone. Light: asked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem
from lmgraft.seams.architecture import Role

if TYPE_CHECKING:
    from lmgraft.recipe import PartUse, Recipe
    from lmgraft.seams.architecture import DecoderSpec, TensorRole

    from lmgraft_megatron.plugin import MegatronConfig

__all__ = ["asked_only", "expressible", "of_recipe", "rates", "split"]

#: Roles that megatron keeps in one matrix.
FUSED = ((Role.QUERY, Role.KEY, Role.VALUE), (Role.MLP_GATE, Role.MLP_IN))
#: The same by the names of their modules.
FUSED_NAMES = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def of_recipe(config: MegatronConfig, recipe: Recipe, stage: str) -> Iterator[Problem]:
    """The problems of one stage under this layout."""
    if recipe.device == "mps":
        cause = "megatron-core runs on CUDA, and on a processor for tests and small models"
        yield Problem("device=mps cannot be used with megatron", cause, "device=cpu, or parallelism=single")
    node = recipe.stage(stage)
    ranks = config.size()
    for part in node.parts:
        if part.seam == "architecture":
            yield from _of_architecture(part, config, ranks)
    size = ranks // (config.tensor * config.pipeline)
    batch = getattr(node.config, "batch", None)
    if isinstance(batch, int) and batch < size:
        cause = f"{ranks} ranks are {config.tensor} * {config.pipeline} * {size}: {size} ranks read different data"
        yield Problem(f"{stage}.batch={batch} cannot be shared out", cause, f"{stage}.batch={size} or more")


def _of_architecture(part: PartUse, config: MegatronConfig, ranks: int) -> Iterator[Problem]:
    if list(part.config.check()):
        return  # told already, and sizes that cannot be say nothing of layouts
    give: Any = getattr(part.config, "spec", lambda: None)
    spec = give()
    if spec is None:
        cause = "its settings give no decoder spec, from which megatron's layers could be built"
        yield Problem(f"{part.path}: megatron cannot build {part.config.part}", cause, "parallelism=ddp")
    else:
        yield from expressible(spec, config, ranks)


def expressible(spec: DecoderSpec | None, config: MegatronConfig, ranks: int) -> Iterator[Problem]:
    """Why megatron-core cannot build or split this model over so many ranks; nothing where it can."""
    tensor, pipeline = config.tensor, config.pipeline
    if ranks % (tensor * pipeline):
        cause = f"tensor * pipeline is {tensor} * {pipeline} = {tensor * pipeline}"
        yield Problem(
            f"{ranks} ranks cannot be laid out", cause, f"parallelism.ranks={_next(ranks, tensor * pipeline)}"
        )
    if spec is None:
        cause = "its architecture gives no decoder spec, from which megatron's layers could be built"
        yield Problem("megatron cannot build this model", cause, "parallelism=ddp, or an architecture such as llama")
        return
    lacking = [
        what
        for what, there in (
            ("positions as biases of attention (ALiBi)", spec.positions == "alibi"),
            ("a norm right after the embedding", spec.embedding_norm),
            ("a mixture of experts", spec.experts > 0),
        )
        if there
    ]
    if lacking:
        cause = f"megatron-core's layers have no place here for {', nor for '.join(lacking)}"
        yield Problem("megatron cannot express this architecture", cause, "parallelism=ddp, or another architecture")
    for name, value, parts, key in (
        ("heads", spec.heads, tensor, "tensor"),
        ("kv_heads", spec.kv_heads, tensor, "tensor"),
        ("mlp", spec.mlp, tensor, "tensor"),
        ("layers", spec.layers, pipeline, "pipeline"),
    ):
        if name == "kv_heads" and _shared_evenly(spec, parts):
            continue
        if value % parts:
            fits = [number for number in range(1, parts) if value % number == 0]
            cause = f"{value} {name} cannot be split into {parts} equal parts"
            yield Problem(f"parallelism.{key}={parts} does not fit the model", cause, f"parallelism.{key}={fits[-1]}")


def _shared_evenly(spec: DecoderSpec, tensor: int) -> bool:
    """Can ranks share key heads? They split the rows of a head's queries, its key and its value evenly."""
    if tensor <= spec.kv_heads or tensor % spec.kv_heads:
        return False
    return (spec.heads + 2 * spec.kv_heads) * spec.head_dim % tensor == 0


def asked_only(precision: str) -> Iterator[Problem]:
    """Why megatron's layers cannot hold weights of this kind; nothing where they can."""
    if precision == "int8":
        cause = "8-bit weights are for asking a model on one device, and megatron's layers hold floats"
        yield Problem("precision=int8 cannot be used with megatron", cause, "precision=bfloat16, or parallelism=single")


def split(trainable: frozenset[Role], spec: DecoderSpec | None) -> list[Problem]:
    """Why the distributed optimizer cannot train these roles alone; nothing where it can."""
    found = []
    for roles in FUSED:
        there = [role.value for role in roles if role in trainable]
        left = [role.value for role in roles if role not in trainable]
        if not there or not left or (Role.MLP_GATE in roles and spec is not None and not spec.gated):
            continue
        fact = f"megatron's distributed optimizer cannot train {', '.join(there)} without {', '.join(left)}"
        remedy = "parallelism.distributed_optimizer=false, or name all of them in trainable"
        found.append(Problem(fact, "megatron keeps them in one matrix, which it splits as a whole", remedy))
    return found


def rates(roles: Mapping[str, TensorRole]) -> list[Problem]:
    """Why the distributed optimizer cannot train tensors of these canonical names at these rates; nothing where it
    can. One problem is told: layers are alike."""
    for name, role in roles.items():
        parts = name.split(".")
        for fused in FUSED_NAMES:
            for other in fused if len(parts) > 1 and parts[-2] == fused[0] else ():
                beside = ".".join([*parts[:-2], other, parts[-1]])
                if beside in roles and roles[beside].lr_scale != role.lr_scale:
                    told = f"{role.lr_scale:g} and {roles[beside].lr_scale:g} times the step's learning rate"
                    fact = f"megatron's distributed optimizer cannot train {name} at another rate than {beside}"
                    cause = f"the initializer gives them {told}, and megatron keeps them in one matrix"
                    remedy = "parallelism.distributed_optimizer=false, or heads as wide as the initializer's base"
                    return [Problem(fact, cause, remedy)]
    return []


def _next(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
