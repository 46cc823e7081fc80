"""What a train stage starts from: the model of a stage, or a folder of somebody else's that the architecture names.

A folder that is named so has a vocabulary of its own, which must be the one that the data were encoded with: the same
ids for the same pieces. Rows that only one of the two has are the architecture's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import checkpoint
from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from lmgraft.recipe import PartUse, Recipe
    from lmgraft.seams.stage import StageContext
    from lmgraft.stages._job import Job

__all__ = ["architecture_of", "brought", "identity", "of_recipe", "problems", "tell"]

#: What of a model folder decides the weights that training starts from.
FILES = ("*.safetensors", "*.safetensors.index.json")


def brought(config: Any) -> Path | None:
    """The folder that an architecture's settings name for its weights."""
    give = getattr(config, "weights", None)
    return give() if callable(give) else None


def architecture_of(context: StageContext, model: Path) -> tuple[Any, Any]:
    """Component and settings of the stage's architecture: its own, or else the model's."""
    from lmgraft.loading import settings_for

    try:
        return context.component("architecture")
    except KeyError:
        return settings_for(model)


def identity(context: StageContext, architecture: tuple[Any, Any] | None) -> Mapping[str, Any]:
    """What the key holds of the start beyond the artifacts that are read: a folder's contents, and what builds a model
    where the recipe leaves that to the model."""
    models = context.inputs.get("model") or []
    if architecture is None:
        return {"architecture": _code(architecture_of(context, models[0].path))}
    from lmgraft.loading import settings_for

    folder = brought(architecture[1])
    if folder is None:
        return {}
    # With a model the folder gives the settings alone.
    files = [folder / checkpoint.CONFIG]
    if not models:
        files += sorted(path for pattern in FILES for path in folder.glob(pattern))
    try:
        digests = context.file_digests(files)
    except OSError as error:
        fact = f"{context.name}.architecture: {error.filename or folder} cannot be read"
        raise UserError(Problem(fact, error.strerror or str(error), "check that it exists and is yours")) from error
    found: dict[str, Any] = {"start": dict(zip([file.name for file in files], digests, strict=True))}
    with suppress(UserError):  # a folder that the part reads by itself
        found["architecture"] = _code(settings_for(folder))
    return found


def _code(architecture: tuple[Any, Any]) -> list[Any]:
    """The part that builds what a folder is of, which the recipe does not name."""
    from lmgraft.registry import package_hash

    component, _ = architecture
    return [component.name, component.revision, package_hash(component.target.partition(":")[0].partition(".")[0])]


def of_recipe(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """A stage whose weights or whose architecture come from nowhere."""
    node = recipe.stage(stage)
    parts = {part.slot: part for part in node.parts}
    model = node.inputs.get("model", ())
    architecture: PartUse | None = parts.get("architecture")
    if architecture is None and not model:
        cause = "neither an architecture nor a model says what is trained"
        yield Problem(
            f"{stage}.architecture is empty", cause, f"architecture@{stage}.architecture=llama, or {stage}.model=STAGE"
        )
    has = architecture is not None and "weights" in architecture.config.provides()
    if not model and not has and "initializer" not in parts and architecture is not None:
        cause = "neither model nor initializer is set, and the architecture brings no weights"
        yield Problem(
            f"stage {stage}: the weights must start from something",
            cause,
            f"initializer@{stage}.initializer=normal, or {stage}.model=STAGE",
        )


def problems(context: StageContext, job: Job) -> Iterator[Problem]:
    """Why the data do not fit a folder that is no stage's; the models of stages are compared elsewhere."""
    folder = job.brought
    if folder is None:
        return
    checkpoint.headers(folder)  # pickles, missing shards and damage, before anything is compared
    other = list(_other_vocabulary(context.name, job, folder))
    yield from other
    if not other:  # with another vocabulary its tables differ too
        from lmgraft.training import weights

        yield from weights.differences(job.part("architecture"), job.vocab_size, folder)


def tell(context: StageContext, job: Job) -> None:
    """Where the weights come from, to the person who waits."""
    if job.brought is not None:
        count = checkpoint.parameters(job.brought)
        context.note(f"starting from {job.brought}, {count:,} parameters")


def _other_vocabulary(stage: str, job: Job, folder: Path) -> Iterator[Problem]:
    from lmgraft.openers import openers, write
    from lmgraft.tokenview.comparing import first_other

    remedy = (
        f"encode the data with the model's own tokenizer: tokenizer@TOKENIZER.tokenizer=pretrained "
        f"TOKENIZER.tokenizer.path={folder}"
    )
    fact = f"stage {stage}: the model in {folder} and the data have different vocabularies"
    if not any((folder / f"tokenizer{ending}").is_file() for ending in openers()):
        size = checkpoint.read_config(folder).get("vocab_size")
        if size != job.vocab_size:
            cause = f"it has {size} token embeddings and no tokenizer beside them, and the data {job.vocab_size} tokens"
            yield Problem(fact, cause, remedy)
        return
    with TemporaryDirectory(prefix="lmgraft-tokenizer-") as name:
        write(folder, Path(name))
        pieces = first_other(Path(name), job.tokenizer)
    if pieces is not None:
        yield Problem(fact, "id {} is {} there and {} in the data's".format(*pieces), remedy)
