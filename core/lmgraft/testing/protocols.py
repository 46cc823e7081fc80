"""Has a part the methods of its seam's protocol, with arguments that core's calls fit? Asked before it is exercised."""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from typing import Any

from lmgraft.testing.outcome import Nonconforming

__all__ = ["hold_to_protocol"]

#: seam -> the protocols of which a part satisfies one, the likeliest first; trackers implement hooks instead.
PROTOCOLS = {
    "data_source": ("DataSource",),
    "filter": ("RowFilter", "CorpusFilter"),
    "tokenizer": ("Tokenizer",),
    "architecture": ("Architecture",),
    "parallelism": ("Parallelism",),
    "objective": ("Objective",),
    "evaluator": ("Evaluator",),
    "initializer": ("Initializer",),
    "adapter": ("Adapter",),
    "merge": ("Merge",),
    "exporter": ("Exporter",),
    "optimizer": ("Optimizer",),
    "schedule": ("Schedule",),
    "teacher": ("Teacher",),
    "stage": ("Stage",),
}
#: Methods of a protocol that a part may leave out.
OPTIONAL = {"architecture": {"to_hub", "from_hub"}}


def hold_to_protocol(seam: str, part: Any, name: str) -> None:
    """Raises :class:`Nonconforming` for the first method or attribute that is missing or cannot be called as core
    calls it."""
    if seam not in PROTOCOLS:
        return
    module = import_module(f"lmgraft.seams.{seam}")
    protocols = [getattr(module, protocol) for protocol in PROTOCOLS[seam]]
    own = {word for word in dir(part) if not word.startswith("_")}
    # Of two kinds of filter, the one of which it has more.
    protocol = max(protocols, key=lambda protocol: len(_members(protocol) & own))
    kind = type(part).__name__
    for member in sorted(_members(protocol) - OPTIONAL.get(seam, set())):
        if member not in own:
            close = difflib.get_close_matches(member, sorted(own), n=1, cutoff=0.6)
            raise Nonconforming(
                f"{name}: {kind} has no {member}",
                f"lmgraft.seams.{seam}.{protocol.__name__} has it; {kind} has {', '.join(sorted(own)) or 'nothing'}",
                f"rename {close[0]} to {member}" if close else f"write {member} in {kind}; docs/reference.md has it",
            )
        _hold_arguments(protocol, member, part, name)


def _members(protocol: type) -> set[str]:
    """The public methods and attributes that a protocol declares."""
    return {word for word in (*vars(protocol), *protocol.__annotations__) if not word.startswith("_")}


def _hold_arguments(protocol: type, member: str, part: Any, name: str) -> None:
    declared = vars(protocol).get(member)
    method = getattr(part, member)
    if not inspect.isfunction(declared) or not callable(method):
        return
    _, *wanted = inspect.signature(declared).parameters.values()
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # a method that is not written in Python tells nothing
        return
    positional = [None for parameter in wanted if parameter.kind is not parameter.KEYWORD_ONLY]
    named = {parameter.name: None for parameter in wanted if parameter.kind is parameter.KEYWORD_ONLY}
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        shown = ", ".join(parameter.name for parameter in wanted)
        raise Nonconforming(
            f"{name}: {type(part).__name__}.{member}{signature} cannot be called as core calls it",
            f"{error}; the protocol's arguments are ({shown})",
            f"give it the arguments of lmgraft.seams.{protocol.__module__.rpartition('.')[2]}.{protocol.__name__}",
        ) from error
