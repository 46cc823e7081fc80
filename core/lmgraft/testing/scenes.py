"""Small recipes around one stage: texts and rows written by the kit, and core's own stages before it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.component import StageConfig
from lmgraft.testing.inputs import documents, texts

__all__ = ["CHECKED", "COLUMNS", "Unmade", "scene", "write_rows", "write_texts"]

#: The name of the stage that is looked at.
CHECKED = "checked"
#: What ``rows`` of a suite may say: how the corpus of rows is read, and the columns that it has.
COLUMNS = {
    "messages": frozenset({"messages"}),
    "pairs": frozenset({"prompt", "chosen", "rejected"}),
}

_CONTEXT = 512
#: Stage -> its settings. Each reads those before it.
_BEFORE: dict[str, dict[str, Any]] = {
    "corpus": {"workers": 1, "validation_bytes": 2000},
    "tokenizer": {"tokenizer": {"vocab_size": 300}},
    "tokens": {"workers": 1},
    "pretrain": {
        "steps": 2, "batch": 2, "seq_len": 32,
        "architecture": {"hidden": 16, "layers": 6, "heads": 2, "kv_heads": 2, "mlp": 32, "context": _CONTEXT},
    },
    "rows": {"workers": 1},
    "evaluate": {"limit": 2},
}  # fmt: skip
_KINDS = {"pretrain": "train", "rows": "corpus"}
#: Artifact -> the stage that makes it, and those that must come before.
_MAKES = {
    "corpus": ("corpus",),
    "tokenizer": ("corpus", "tokenizer"),
    "tokens": ("corpus", "tokenizer", "tokens"),
    "model": ("corpus", "tokenizer", "tokens", "pretrain"),
    "scores": ("corpus", "tokenizer", "tokens", "pretrain", "evaluate"),
}
#: Seam -> the part of a slot for which nobody named another.
_PARTS = {
    "data_source": "files", "tokenizer": "byte_bpe", "architecture": "llama", "objective": "causal_lm",
    "optimizer": "adamw", "schedule": "cosine", "initializer": "normal", "parallelism": "single",
    "evaluator": "perplexity", "merge": "dus", "adapter": "lora", "exporter": "hf",
}  # fmt: skip
_PARTS_BEFORE: dict[str, dict[str, Any]] = {
    "corpus": {"sources": ["files"]},
    "rows": {"sources": ["files"]},
    "tokenizer": {"tokenizer": "byte_bpe"},
    "pretrain": {seam: _PARTS[seam] for seam in ("architecture", "objective", "optimizer", "schedule", "initializer")},
    "evaluate": {"evaluators": ["perplexity"]},
}


class Unmade(ValueError):
    """A recipe that the kit cannot think of; the text says what it lacks."""


def write_texts(folder: Path) -> Path:
    """Six text files of a few kilobytes, nasty Unicode among them."""
    some = texts(120)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (folder / f"{number}.txt").write_bytes("\n\n".join(some[number::6]).encode())
    return folder


def write_rows(file: Path, rows: str, count: int = 24) -> Path:
    """JSON lines of chats (``messages``) or preferences (``pairs``)."""
    columns = COLUMNS[rows]
    found = [{name: getattr(document, name) for name in sorted(columns)} for document in documents(columns, count)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in found), encoding="utf-8")
    return file


def scene(kind: str, config: type[StageConfig], parts: Mapping[str, Any], rows: str, folder: Path) -> dict[str, Any]:
    """A recipe, as plain data, whose last stage is of ``kind`` and named :data:`CHECKED`.

    :param parts: slot -> the part's name, or a list of names for a slot that takes many.
    :param rows: empty, or what ``corpus`` inputs hold instead of text: a key of :data:`COLUMNS`.
    :raises Unmade: it reads an artifact that no stage of core's makes, or has a slot that the kit has no part for.
    """
    specs = [spec for spec in dataclasses.fields(config) if "input" in spec.metadata and not spec.metadata["optional"]]
    inputs = {spec.name: _maker(spec, rows) for spec in specs}
    needed = {stage for name in inputs.values() for stage in (_MAKES["corpus"] if name == "rows" else _before(name))}
    needed |= {"rows"} & set(inputs.values())
    before = [name for name in _BEFORE if name in needed]
    recipe: dict[str, Any] = {
        "defaults": ["base"],
        "stages": [*before, CHECKED],
        "device": "cpu",
        "precision": "float32",
    }
    for name in before:
        recipe["defaults"] += _defaults(name, _KINDS.get(name, name), _PARTS_BEFORE.get(name, {}))
        recipe[name] = {**_BEFORE[name], **_sources(name, folder, rows)}
    chosen = _chosen(kind, config, parts)
    recipe["defaults"] += [*_defaults(CHECKED, kind, chosen), "_self_"]
    lists = {spec.name for spec in specs if str(spec.type).startswith("list")}
    recipe[CHECKED] = {role: [name] if role in lists else name for role, name in inputs.items()}
    if "files" in chosen.get("sources", ()):
        recipe[CHECKED] |= _sources("corpus", folder, "")
    return recipe


def _maker(spec: dataclasses.Field[Any], rows: str) -> str:
    """The stage that makes what an input reads."""
    kinds: Sequence[str] = spec.metadata["input"]
    if rows and "corpus" in kinds:
        return "rows"
    made = next((kind for kind in kinds if kind in _MAKES), None)
    if made is None:
        raise Unmade(f"its input {spec.name} reads {' or '.join(kinds)}, which no stage of core's makes")
    return _MAKES[made][-1]


def _before(name: str) -> tuple[str, ...]:
    return next(stages for stages in _MAKES.values() if stages[-1] == name)


def _chosen(kind: str, config: type[StageConfig], parts: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(parts)
    for spec in dataclasses.fields(config):
        slot = spec.metadata.get("slot")
        if not slot or spec.metadata["optional"] or spec.name in found or slot == "parallelism":
            continue
        if slot not in _PARTS:
            raise Unmade(f"its slot {spec.name} wants one {slot}, and none comes with lmgraft")
        found[spec.name] = [_PARTS[slot]] if spec.metadata["many"] else _PARTS[slot]
    slots = {spec.name: spec.metadata["slot"] for spec in dataclasses.fields(config) if "slot" in spec.metadata}
    strange = sorted(set(found) - set(slots))
    if strange:
        raise Unmade(f"`parts` names {strange[0]}, and the slots of {kind} are {', '.join(slots) or 'none'}")
    return found


def _defaults(name: str, kind: str, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    from lmgraft.registry import registry

    config = registry().get("stage", kind).component.config
    slots = {spec.name: spec.metadata.get("slot") for spec in dataclasses.fields(config)}
    return [{f"stage@{name}": kind}, *({f"{slots[slot]}@{name}.{slot}": part} for slot, part in parts.items())]


def _sources(name: str, folder: Path, rows: str) -> dict[str, Any]:
    files = {
        "corpus": {"path": str(folder / "texts"), "document_bytes": 1024},
        "rows": {"path": str(folder / "rows.jsonl"), "rows": rows},
    }
    return {"sources": {"files": files[name]}} if name in files else {}
