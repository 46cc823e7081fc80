"""What is said where a value, a null or a reference stands in the place of a part or a stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omegaconf import OmegaConf

from lmgraft import table
from lmgraft.errors import Problem
from lmgraft.phrases import a, part_names

__all__ = ["in_place_of_part", "in_place_of_stage", "part_by_hand"]


def in_place_of_part(where: str, seam: str, node: Any, *, many: bool = False) -> Problem:
    """Hydra would replace the typed node with a plain value without a word."""
    names = part_names(seam)
    raw = _raw(node)
    cause = f"{a(seam)} belongs there, which is chosen by its group and not by a value"
    if _is_reference(node):
        choice = f"[NAME], of {', '.join(names)}" if many else f"NAME, of {', '.join(names)}"
        return Problem(f"{where}={raw} is a reference where a part belongs", cause, f"{seam}@{where}={choice}")
    if raw is None and many:
        return Problem(f"{where}=null is a plain value where parts belong", cause, f"{seam}@{where}=[] takes none")
    chosen = [str(name) for name in (raw if isinstance(raw, list) else [raw])]
    typed = f"[{','.join(chosen)}]" if isinstance(raw, list) else str(raw)
    remedy = f"{seam}@{where}=" + (f"[{','.join(chosen)}]" if many else typed)
    hint = f" (installed: {', '.join(names)})" if set(chosen) - set(names) else ""
    return Problem(f"{where}={typed} is a plain value where a part belongs", cause, remedy + hint)


def in_place_of_stage(name: str, node: Any, others: Iterable[str]) -> Problem:
    """``others`` are the root keys that may have been meant."""
    kinds = part_names("stage")
    cause = "the settings of a stage belong there, and its kind is chosen by its group"
    if _is_reference(node):
        return Problem(f"{name}={_raw(node)} is a reference", cause, f"stage@{name}=KIND, of {', '.join(kinds)}")
    if node is not None and not OmegaConf.is_dict(node):
        raw = "null" if _raw(node) is None else str(_raw(node))
        remedy = f"stage@{name}={raw}" if raw in kinds else f"stage@{name}=KIND, of {', '.join(kinds)}"
        return Problem(f"{name}={raw} is a plain value where a stage belongs", cause, remedy)
    if node is not None and node._is_none():
        remedy = f"leave it out of stages, or take {name}=null away"
        return Problem(f"{name}=null is no stage", "stages lists it", remedy)
    cause = "stages lists it, and no kind of stage is bound to it"
    bind = f"take it out of stages, or bind it in defaults: - stage@{name}: KIND, of {', '.join(kinds)}"
    return Problem(f"stage {name} has no kind", cause, table.close(name, others) or bind)


def part_by_hand(where: str, key: str, value: str, seam: str, *, many: bool) -> Problem:
    """``part`` or ``kind``, set to another name than the one that was chosen."""
    names = part_names(seam)
    place = where.rpartition(".")[0] if many else where
    choice = value if value in names else "NAME"
    remedy = f"choose it by its group: {seam}@{place}={f'[{choice}]' if many else choice}"
    cause = f"{key} is filled in when the recipe is composed and never set by hand"
    return Problem(f"{where}.{key}={value}", cause, remedy + ("" if value in names else f", of {', '.join(names)}"))


def _is_reference(node: Any) -> bool:
    return node is not None and bool(node._is_interpolation())


def _raw(node: Any) -> Any:
    """The value as it stands, references unresolved."""
    if OmegaConf.is_config(node) and not node._is_interpolation() and not node._is_none():
        return OmegaConf.to_container(node)
    return node._value() if node is not None else None
