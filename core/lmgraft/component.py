"""What a plugin hands to core: a ``Component`` (strings and a config class) and the config class itself.

This module is all that a plugin's light module needs to import; it imports nothing heavy and must stay so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = [
    "MISSING",
    "Component",
    "ComponentConfig",
    "StageConfig",
    "execution",
    "from_stage",
    "is_execution",
    "result_fields",
    "slot",
    "slots",
]

T = TypeVar("T")

#: A field without a default: the recipe or the command line must set it. (OmegaConf's own mark for the same thing.)
MISSING: Any = "???"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(Generic[T]):
    """One part behind a seam, described without importing it.

    Its arguments are given by name::

        Component(
            name="my_dpo",
            target="my_package.objective:MyDpo",
            config=MyDpoConfig,
            summary="DPO with a margin of my own",
            variants=("strict",),
        )
    """

    name: str
    """The name in recipes; equal to the name of the entry point that promises it."""
    target: str
    """Where the class lies, ``"package.module:Class"``; imported when a run builds the part. Called with the config."""
    config: type[ComponentConfig]
    """A dataclass; its fields are the part's settings in a recipe."""
    summary: str
    """One line for ``lmgraft plugins list``, at most 72 characters."""
    api: int = 1
    """The version of the seam's protocol that the part was written for (the seam's section of the reference says which
    ones this lmgraft speaks)."""
    requires: tuple[str, ...] = ()
    """PEP 508 requirements beyond the distribution's own; checked before the target is imported."""
    revision: int = 1
    """Raise it when the same config gives other results: it is part of the action key."""
    variants: tuple[str, ...] = ()
    """The YAML variants that come with it, ``conf/SEAM/NAME/VARIANT.yaml`` in its package. Said here so that a wheel
    that was built without them is found out."""


@dataclass
class ComponentConfig:
    """Base of every part's settings.

    Fields are plain values, ``Enum``, ``list``, ``dict`` or nested dataclasses (OmegaConf knows no ``Literal``).
    Of an ``Enum`` users type the member's *name*, and keys hold its value: make them one word, ``mean = "mean"``.

    A field counts as ``result`` (it decides what comes out and so is part of the action key) unless it is declared
    with :func:`execution`. The string under a field is its documentation. A field without a default is declared
    ``name: int = MISSING``.

    ``needs`` and ``provides`` share one vocabulary; what a stage's parts need, the parts of the same stage and of the
    stages upstream must provide. Words in use: ``columns:NAME`` for each column of documents (``text``, ``messages``,
    ``prompt``, ``chosen``, ``rejected``: sources provide; filters, objectives and evaluators need), ``decoder_spec``
    (an architecture whose ``spec()`` is not None), ``norm`` or ``no_norm`` (whether it normalises), ``reference`` (a
    score stage), ``packable`` (an objective whose rows may share a sequence), ``split:validation`` (a corpus stage that
    holds text out; evaluators that read it need it). A plugin may bring words of its own.
    """

    part: str = ""
    """The component's name, filled in when the recipe is composed; never set by hand."""

    def needs(self) -> frozenset[str]:
        """What this part needs of its neighbours: the other parts of its stage and everything upstream of it."""
        return frozenset()

    def provides(self) -> frozenset[str]:
        """What this part offers to its neighbours, in the same vocabulary (``"columns:text"``, ``"decoder_spec"``)."""
        return frozenset()

    def ready(self) -> bool:
        """For data sources: has this one been pointed at anything (a path is set)? A source that is not ready gives way
        to those that the stage names as its ``fallback``."""
        return True

    def check(self) -> Iterator[Problem | str]:
        """Yields every problem of the values themselves, not only the first. A string becomes the cause of a
        :class:`lmgraft.errors.Problem`; begin it with the field's name, and the fact names the key."""
        yield from ()

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """Yields every problem that shows only beside other parts, before any work; ``stage`` is the stage this part
        serves (empty for a tracker). Called where :meth:`check` found problems too; heavy imports have no place here.

        ``recipe`` is :class:`lmgraft.recipe.Recipe`, to be read and not changed: ``recipe.stage(stage)`` with its
        ``config``, ``parts`` (their seams and settings) and ``inputs``, ``recipe.upstream(stage)``, ``recipe.stages``,
        ``recipe.device`` and ``recipe.precision`` (both may be ``auto``). An architecture whose settings have no
        ``spec()`` says when sequences are too long for it, by ``lmgraft.errors.Problem``::

            def check_recipe(self, recipe, stage):
                length = getattr(recipe.stage(stage).config, "seq_len", 0)
                if length > self.context:
                    cause = f"the model is made for sequences of {self.context} tokens at most"
                    yield Problem(f"{stage}.seq_len={length}", cause, f"{stage}.seq_len={self.context}")

        A stage of another kind may have no ``seq_len``: hence the 0.
        """
        yield from ()


@dataclass
class StageConfig(ComponentConfig):
    """Base of a stage's settings: its kind, its own fields, its slots for parts and its input stages.

    A field is a plain setting, a place for parts (:func:`slot`, :func:`slots`) or an input (:func:`from_stage`)::

        @dataclass
        class DistilStage(StageConfig):
            artifact: ClassVar[str] = "corpus"

            teacher: Any = slot("teacher")
            filters: dict[str, Any] = slots("filter")
            corpus: str = from_stage("corpus", default="corpus")
            workers: int = execution(1)

    A recipe puts a part into a slot with ``teacher@STAGE.teacher: NAME``; the stage builds it with
    ``context.part("teacher")`` and finds its inputs in ``context.inputs["corpus"]``.

    One that makes a model without an architecture in a slot may have the method ``spec()``, as an architecture's
    settings have it (:class:`lmgraft.seams.architecture.ArchitectureConfig`): what trains on its model is then checked
    beforehand.
    """

    artifact: ClassVar[str] = ""
    """The kind of artifact that the stage makes."""

    kind: str = ""
    """The kind of stage, filled in when the recipe is composed."""

    def idle(self, parts: Mapping[str, ComponentConfig]) -> frozenset[str]:
        """Of ``parts`` (slot, as ``sources.files`` -> settings) those that will not be used, and so offer nothing."""
        return frozenset()


def execution(default: Any = dataclasses.MISSING, *, default_factory: Any = dataclasses.MISSING) -> Any:
    """A field that changes how work is done and never what comes out (workers, cadence, paths): outside the key.

    ``workers: int = execution(0)``; a list or dict as ``execution(default_factory=list)``; without either the recipe
    must set it.
    """
    if default_factory is not dataclasses.MISSING:
        return field(default_factory=default_factory, metadata={"execution": True})
    if default is dataclasses.MISSING:
        default = MISSING
    return field(default=default, metadata={"execution": True})


def slot(seam: str, *, optional: bool = False, execution: bool = False) -> Any:
    """A stage field that takes one part of ``seam``; an ``execution`` slot (a layout) stays out of the key. Its
    annotation is ``Any``; an ``optional`` one may stay None."""
    metadata = {"slot": seam, "many": False, "optional": optional, "execution": execution}
    return field(default=None, metadata=metadata)


def slots(seam: str, *, optional: bool = True) -> Any:
    """A stage field that takes any number of parts of ``seam``, in the recipe's order, each under its own name or a
    key that the recipe gives it. Its annotation is ``dict[str, Any]``; unless ``optional``, it needs one at least."""
    return field(default_factory=dict, metadata={"slot": seam, "many": True, "optional": optional})


def from_stage(*artifacts: str, default: Any = MISSING, optional: bool = False) -> Any:
    """A stage field that names the stage (or list of stages) whose artifact, of one of these kinds, is the input.

    Annotated ``str``, ``str | None`` or ``list[str]``; ``default`` is the name that a recipe usually gives that stage.
    """
    metadata = {"input": artifacts, "optional": optional}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def is_execution(spec: dataclasses.Field[Any]) -> bool:
    """Whether a field of a config was declared with :func:`execution` (or is such a slot)."""
    return bool(spec.metadata.get("execution", False))


def result_fields(config: ComponentConfig) -> dict[str, Any]:
    """The values that belong in an action key: no execution fields, no slots, no input names, no bookkeeping. A field
    with the metadata ``identity`` is in the stage's ``identity``: where that is true, it names other stages and is told
    there without their names; where it is ``"value"``, in one form for all that mean the same, and only if it is
    set."""
    return {
        spec.name: getattr(config, spec.name)
        for spec in dataclasses.fields(config)
        if spec.name not in ("part", "kind")
        and not is_execution(spec)
        and "slot" not in spec.metadata
        and not {"input", "identity"} & spec.metadata.keys()
    }
