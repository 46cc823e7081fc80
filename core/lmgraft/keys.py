"""Action keys: what decides a stage's result, as one digest.

In the key: the kind and its revision, the ``result`` fields, each part's name, revision, package hash and ``result``
fields, the content digests of the inputs, and what the stage's ``identity`` adds (digests of source files, the resolved
precision). Not in it: ``execution`` fields and slots, the names of stages, versions of torch and Python.

The *loose* key leaves the package hashes and revisions out: keys that agree loosely are the same work by
other code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.component import is_execution, result_fields
from lmgraft.recipe import PartUse, StageNode
from lmgraft.registry import package_hash

__all__ = ["Key", "action_key", "canonical"]


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    action: str
    loose: str
    parts: Mapping[str, str]
    """Part -> package hash, for saying what changed."""


def action_key(stage: StageNode, inputs: Mapping[str, Sequence[Artifact]], identity: Mapping[str, Any]) -> Key:
    """The key of a stage over the artifacts that its inputs turned out to be."""
    parts = [part for part in stage.parts if not part.execution]
    packages = {part.path.partition(".")[2]: package_hash(_package(part)) for part in parts}
    same = {
        "kind": stage.kind,
        "fields": result_fields(stage.config),
        "inputs": {role: [artifact.digest for artifact in artifacts] for role, artifacts in inputs.items()},
        "identity": dict(identity),
        "parts": [
            {"slot": part.slot, "seam": part.seam, "name": part.config.part, "fields": result_fields(part.config)}
            for part in parts
        ],
    }
    code = {
        "revision": stage.installed.component.revision,
        # Core's own kinds change by revision alone; a third party's stage is a part like any other.
        "stage": ""
        if _package_of(stage.installed.component.target) == "lmgraft"
        else package_hash(_package_of(stage.installed.component.target)),
        "parts": {part.slot: [package_hash(_package(part)), part.installed.component.revision] for part in parts},
    }
    return Key(_digest({**same, "code": code}), _digest(same), packages)


def canonical(value: Any) -> Any:
    """A value as JSON, the same for equal values: enums by value, dataclasses and mappings by sorted keys."""
    if isinstance(value, Enum):
        return canonical(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Settings within settings may hold execution fields too.
        fields = [spec for spec in dataclasses.fields(value) if not is_execution(spec)]
        return {spec.name: canonical(getattr(value, spec.name)) for spec in fields}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(item) for item in value), key=str)
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no place in an action key")


def _digest(value: Any) -> str:
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _package(part: PartUse) -> str:
    return _package_of(part.installed.component.target)


def _package_of(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]
