"""Calls of tools as text, in one form whatever a data set writes: that of Nous' Hermes Function Calling, which Qwen's
chat template writes as well. So filters see them, every template writes them, and what the assistant calls is learnt.

A call stands in the assistant's message as ``<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>``, what it
gave is a message of the role ``tool``, and the tools that there are stand in the system message between ``<tools>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraft.rows.values import RowError, named

__all__ = ["calls_as_text", "tools_as_text"]

_CALL = 'write a call as {"name": "...", "arguments": {...}}'


def calls_as_text(calls: Any, what: str) -> str:
    """One call or several, as objects or as JSON: ``{"name", "arguments"}``, or OpenAI's ``{"function": {...}}``.

    Raises RowError.
    """
    found = _parsed(calls, what, _CALL)
    listed = found if isinstance(found, list) else [found]
    if not listed:
        raise RowError(f"{what} is no call of a tool", "it is an empty list", _CALL, "bad_call")
    return "\n".join(_call(one, what) for one in listed)


def tools_as_text(tools: Any, key: str) -> str:
    """The system message's part that lists the tools; empty where there are none. ``tools`` is a list, or its JSON.

    Raises RowError.
    """
    remedy = "write a list of tools, as objects or as JSON"
    found = _parsed(tools, repr(key), remedy)
    if not isinstance(found, list) or not all(isinstance(tool, Mapping) for tool in found):
        raise RowError(f"{key!r} is no list of tools", f"it is {named(found)}", remedy, "bad_call")
    if not found:
        return ""
    lines = "\n".join(_json(tool) for tool in found)
    return (
        "These tools can be called, each call written as "
        '<tool_call>{"name": NAME, "arguments": OBJECT}</tool_call>:\n<tools>\n' + lines + "\n</tools>"
    )


def _call(call: Any, what: str) -> str:
    inner = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise RowError(f"{what} is no call of a tool", f"it is {named(inner)} without a name", _CALL, "bad_call")
    arguments = _parsed(inner.get("arguments") or {}, f"'arguments' of {what}", _CALL)
    return f"<tool_call>\n{_json({'name': inner['name'], 'arguments': arguments})}\n</tool_call>"


def _parsed(value: Any, what: str, remedy: str) -> Any:
    """``value``, read as JSON where it is a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{what} is not JSON", f"{error}; it begins {value[:40]!r}", remedy, "bad_call") from None


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
