"""The body of a request, checked: OpenAI's parameters of completions and of chat completions.

What the API has and a model here cannot do (tools, images, logprobs, penalties other than ``repetition_penalty``) is
refused by name where it would change the answer; what changes none (``user``, ``metadata``) is passed over; what the
API does not have is refused, as there. ``top_k`` and ``repetition_penalty`` are taken as well.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmgraft.errors import UserError
from lmgraft.generation.prompts import Prompts
from lmgraft.generation.text import Ending
from lmgraft.seams.parallelism import Sampling
from lmgraft.serving.refusals import Refused

__all__ = ["Asked", "Limits", "read", "read_json"]

#: Passed over: they change no answer.
_IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls", "reasoning_effort", "verbosity",
})  # fmt: skip
#: Values with which a parameter that cannot be obeyed asks for nothing.
_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (False,), "top_logprobs": (0,), "echo": (False,), "suffix": ("",), "best_of": (1,),
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "tools": ([],), "tool_choice": ("none",),
    "functions": ([],), "function_call": ("none",), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "audio": (), "prediction": (), "web_search_options": (),
}  # fmt: skip
_OURS = frozenset({
    "model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "n",
    "seed", "stop",
})  # fmt: skip
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
#: Stop strings of a request, and characters of one.
_STOPS, _STOP_LENGTH = 16, 256
#: Messages of a conversation. A template is rendered anew for each answer among them, since it may write any message as
#: it likes: the time is quadratic.
_MESSAGES = 1000
#: What OpenAI's completions write where the request does not say how much.
_SHORT = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for."""

    model: str
    """The name that requests give; of a folder's name what is no UTF-8 becomes U+FFFD, since JSON carries text."""
    context: int
    """Ids that the model takes."""
    tokens: int
    """Tokens of an answer at most; a request that asks for more gets so many."""
    texts: int
    """Texts of one request."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fsencode(self.model).decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, ready to be answered."""

    chat: bool
    """Is it a conversation."""
    prompts: list[list[int]]
    """Ids of each prompt."""
    samplings: list[Sampling]
    """Of each text of one prompt."""
    ending: Ending
    """What ends each text."""
    stream: bool
    """Piece by piece."""
    usage: bool
    """A last piece tells the counts."""


def read_json(raw: bytes) -> dict[str, Any]:
    """The object that a body holds. :raises Refused: it holds none."""
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()  # lone halves of a character are no text
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body of the request is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return body


def read(body: Mapping[str, Any], asked: Prompts, limits: Limits, *, chat: bool) -> Asked:
    """Everything that the body asks for.

    :raises Refused: with status 400, or 404 for another model's name.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _known(given, chat)
    _model(given, limits)
    number = _whole(given, "n", 1, 1, limits.texts)
    ids = [_messages(given, asked)] if chat else _prompts(given, asked, limits)
    _is(len(ids) * number <= limits.texts, "n", f"so that the request asks for {limits.texts} texts at most")
    for prompt in ids:
        _fits(prompt, limits, "messages" if chat else "prompt")
    ending = asked.ending(chat=chat, strings=_stops(given))
    options = given.get("stream_options", {})
    _is(isinstance(options, dict), "stream_options", "an object")
    return Asked(
        chat=chat,
        prompts=ids,
        samplings=_samplings(given, ending, limits, number, chat),
        ending=ending,
        stream=_flag(given, "stream"),
        usage=_flag(options, "include_usage"),
    )


def _known(given: Mapping[str, Any], chat: bool) -> None:
    own = {"messages", "max_completion_tokens"} if chat else {"prompt"}
    for name, value in given.items():
        if name in _NOTHING:
            if not any(value == nothing for nothing in _NOTHING[name]):
                raise Refused(400, f"{name} is not supported by this server.", param=name, code="unsupported_parameter")
        elif name not in _IGNORED | _OURS | own:
            raise Refused(400, f"Unrecognized request argument supplied: {name}", param=name)


def _model(given: Mapping[str, Any], limits: Limits) -> None:
    if "model" not in given:
        raise Refused(400, "you must provide a model parameter", param="model")
    if given["model"] != limits.model:
        message = f"The model {str(given['model'])[:100]!r} does not exist; here is {limits.model!r}."
        raise Refused(404, message, param="model", code="model_not_found")


def _samplings(given: Mapping[str, Any], ending: Ending, limits: Limits, number: int, chat: bool) -> list[Sampling]:
    asked = "max_completion_tokens" if "max_completion_tokens" in given else "max_tokens"
    most = _whole(given, asked, limits.tokens if chat else _SHORT, 1, None)
    seed = _whole(given, "seed", secrets.randbits(62), None, None) % 2**62
    return [
        Sampling(
            max_new_tokens=min(most, limits.tokens),
            temperature=_real(given, "temperature", 1.0, lambda value: 0 <= value <= 2, "between 0 and 2"),
            top_k=_whole(given, "top_k", 0, 0, None),
            top_p=_real(given, "top_p", 1.0, lambda value: 0 < value <= 1, "above 0 and at most 1"),
            repetition_penalty=_real(given, "repetition_penalty", 1.0, lambda value: 0 < value <= 100, "above 0"),
            seed=seed + index,
            stop_ids=ending.ids,
        )
        for index in range(number)
    ]


def _fits(ids: Sequence[int], limits: Limits, param: str) -> None:
    if len(ids) >= limits.context:
        message = (
            f"This model's maximum context length is {limits.context} tokens. However, your {param} resulted in "
            f"{len(ids)} tokens. Please reduce its length."
        )
        raise Refused(400, message, param=param, code="context_length_exceeded")


def _stops(given: Mapping[str, Any]) -> list[str]:
    found = given.get("stop", [])
    stops = [found] if isinstance(found, str) else found
    fine = isinstance(stops, list) and len(stops) <= _STOPS
    fine = fine and all(isinstance(one, str) and 0 < len(one) <= _STOP_LENGTH for one in stops)
    _is(fine, "stop", f"a text or a list of up to {_STOPS} texts, none of them empty")
    return list(stops)


def _prompts(given: Mapping[str, Any], asked: Prompts, limits: Limits) -> list[list[int]]:
    found = given.get("prompt", "")
    if isinstance(found, str):
        return [_encoded(asked.text, found, "prompt")]
    fine = isinstance(found, list) and bool(found)
    if fine and isinstance(found[0], (str, list)):
        _is(len(found) <= limits.texts, "prompt", f"{limits.texts} prompts at most")
    if fine and all(isinstance(one, str) for one in found):
        return [_encoded(asked.text, one, "prompt") for one in found]
    lists = found if fine and all(isinstance(one, list) for one in found) else [found]
    fine = fine and all(one and all(type(i) is int and 0 <= i < asked.size for i in one) for one in lists)
    _is(fine, "prompt", f"a text, a list of texts, or ids below {asked.size}")
    return [list(one) for one in lists]


def _messages(given: Mapping[str, Any], asked: Prompts) -> list[int]:
    found = given.get("messages")
    _is(isinstance(found, list) and bool(found), "messages", "a list of messages, and not empty")
    _is(len(found or ()) <= _MESSAGES, "messages", f"{_MESSAGES} messages at most")
    if asked.template is None:  # said here, since no client is told where the model's folder is
        raise Refused(400, "This model has no chat template: ask it at /v1/completions.", param="messages")
    messages = [_message(message, f"messages.[{index}]") for index, message in enumerate(found or ())]
    return _encoded(asked.chat, messages, "messages")


def _message(message: Any, param: str) -> dict[str, str]:
    _is(isinstance(message, dict), param, "an object")
    role, content = message.get("role"), message.get("content")
    _is(isinstance(role, str) and role in _ROLES, f"{param}.role", f"one of {', '.join(sorted(_ROLES))}")
    if isinstance(content, list):
        fine = all(isinstance(part, dict) and part.get("type") == "text" for part in content)
        fine = fine and all(isinstance(part.get("text"), str) for part in content)
        _is(fine, f"{param}.content", "a text: parts of other types are not supported by this server")
        content = "".join(part["text"] for part in content)
    _is(isinstance(content, str), f"{param}.content", "a text")
    return {"role": "system" if role == "developer" else str(role), "content": str(content)}


def _encoded(encode: Callable[[Any], list[int]], what: Any, param: str) -> list[int]:
    try:
        return encode(what)
    except UserError as error:
        first = error.problems[0]
        raise Refused(400, f"{first.fact}: {first.cause}", param=param) from error


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name) or False
    _is(isinstance(value, bool), name, "true or false")
    return bool(value)


def _whole(given: Mapping[str, Any], name: str, default: int, least: int | None, most: int | None) -> int:
    value = given.get(name, default)
    _is(type(value) is int, name, "a whole number")
    _is(least is None or value >= least, name, f"at least {least}")
    _is(most is None or value <= most, name, f"at most {most}")
    return int(value)


def _real(given: Mapping[str, Any], name: str, default: float, fine: Callable[[float], bool], words: str) -> float:
    value = given.get(name, default)
    _is(isinstance(value, (int, float)) and not isinstance(value, bool), name, "a number")
    _is(fine(value), name, words)
    return float(value)


def _is(fine: bool, name: str, words: str) -> None:
    if not fine:
        raise Refused(400, f"Invalid value for {name!r}: it must be {words}.", param=name, code="invalid_value")
