"""Code that changed under half-done work: found by the hash that leaves the code out, and never passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.store._files import has_files, newest
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Leases
from lmgraft.store._place import Place, best_place, changed_parts
from lmgraft.store._record import find

__all__ = ["drifted", "refuse"]


def drifted(layout: Layout, leases: Leases, intent: Mapping[str, Any]) -> list[Place]:
    """Half-done work that equals the intent but for its parts' code, and that nobody is at; the latest first."""
    found: list[Place] = []
    for key in layout.keys("work"):
        if key == intent["key"] or not intent["loose"]:
            continue
        place = best_place(layout, key)
        old = place.intent() if place else None
        if place is None or old is None or old.get("loose") != intent["loose"] or not has_files(place.work):
            continue
        if leases.live(key) is None and find(layout, key) is None:
            found.append(place)
    return sorted(found, key=lambda place: newest(place.path), reverse=True)


def refuse(place: Place, intent: Mapping[str, Any]) -> UserError:
    """Says what changed, and the two ways on."""
    old = place.intent() or {}
    changed = changed_parts(old, intent)
    parts = ", ".join(f"{name} ({_short(was)} -> {_short(now)})" for name, (was, now) in changed.items())
    stage = intent["describe"].get("stage") or intent["key"][:12]
    return UserError(
        Problem(
            f"{stage} is half done, and its code has changed since: {parts or 'in no part that is named'}",
            "the artifact would mix what the old code did with what the new code does",
            "--accept-drift goes on from that work and records it; --restart discards it and begins anew",
        )
    )


def _short(package_hash: Any) -> str:
    return "absent" if package_hash is None else str(package_hash)[:12]
