"""Chats as tokens: templates, what a model is given to answer, and which tokens of a conversation are answers.

A template is the Jinja source that transformers keeps as a tokenizer's ``chat_template``, rendered in the same sandbox
with the same switches, so a model tuned here is prompted the same way everywhere else. Three things differ:

- The marks ``bos_token`` and ``eos_token`` become tokens *by id*: the end token, and the one that the tokenizer names
  for a beginning (the end token too, as in GPT-2, unless it is somebody's with ``<s>``). They are rendered as private
  characters that no text can hold, so a message that spells ``<|endoftext|>`` stays text and ends nothing.
- Special tokens that the *template* writes (``<|im_start|>``, where the tokenizer has it as a special token) get their
  ids, as in transformers; those that a message spells in any of its fields stay text, as everywhere here, and unlike
  in transformers. (A role is a name: what a template writes around it, ``<|role|>``, is the template's.)
- An answer and what stands before it are encoded apart. So a model that is asked sees the very ids that it was trained
  on, whatever the tokenizer would have merged across that border.

A template may come from a stranger with his model: it is rendered in a sandbox without attributes of Python objects and
within a bound of work (:mod:`lmgraft.bounded`), and messages are data to it, never source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["TEMPLATES", "Messages", "encode_chat", "encode_prompt", "render", "source", "stop_ids"]

Messages = Sequence[Mapping[str, Any]]

#: Upstage's SOLAR 10.7B Instruct: https://huggingface.co/upstage/SOLAR-10.7B-Instruct-v1.0
_SOLAR = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '### System:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### User:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Assistant:\\n' + message['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% else %}{{ raise_exception('a message of the role ' + message['role']) }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
#: Taori et al. 2023, Stanford Alpaca: the instruction's heading and the response's, without the preamble.
_ALPACA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% else %}{{ raise_exception('a message of the role ' + message['role']) }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
#: OpenAI's ChatML, but that the end token closes an answer. Its marks are special tokens where the tokenizer has them
#: (``special_tokens: ["<|im_start|>", "<|im_end|>"]``) and plain text elsewhere.
_CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '<|im_end|>' }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEMPLATES: Mapping[str, str] = {"solar": _SOLAR, "alpaca": _ALPACA, "chatml": _CHATML}
"""Name -> Jinja source."""

#: Stands for the end token in rendered text. Unicode keeps this character unassigned for ever, and a text that holds it
#: is refused, so it can only come from the template.
MARK = "\ufdd0"

#: Stands for the token of a beginning, likewise.
BEGIN = "\ufdd2"

#: Stands behind the first character of a special token that a message spells, until the template has written it.
GUARD = "\ufdd1"

#: Fields of a message and its parts that hold names. Templates compare them, so they are left as they are.
NAMES = frozenset({"role", "type"})


def source(name_or_jinja: str) -> str:
    """A template's name as its source; anything that holds a brace is a source itself.

    :raises UserError: no template of that name, or a source that is no Jinja.
    """
    if "{" not in name_or_jinja:
        if name_or_jinja not in TEMPLATES:
            cause = f"templates are {', '.join(TEMPLATES)}, or the Jinja source of one"
            raise UserError(Problem(f"there is no chat template {name_or_jinja!r}", cause, "template=solar"))
        return TEMPLATES[name_or_jinja]
    _compiled(name_or_jinja)
    return name_or_jinja


def encode_prompt(messages: Messages, tokenizer: TextTokenizer, template: str) -> list[int]:
    """The ids after which the model is to answer: the conversation so far and the opening of an answer.

    ``template`` is a name or a source. :raises UserError: the template cannot render these messages.
    """
    special = _Special(tokenizer)
    messages = special.guarded(messages)
    with _work(messages):
        cut = _pieces(messages, template, special)
        text = render(messages, template, add_generation_prompt=True)
    if cut and not cut[-1][1]:
        cut.pop()  # what follows the last answer goes with the opening of the next one, as in training
    pieces = [piece for piece, _ in cut]
    done = "".join(pieces)
    return special.encode([*pieces, text[len(done) :]] if text.startswith(done) else [text])


def encode_chat(messages: Messages, tokenizer: TextTokenizer, template: str) -> tuple[list[int], list[float]]:
    """(ids, weights): 1.0 on every id of an assistant's turn and on the end token that closes it, 0.0 elsewhere.

    :raises UserError: the template cannot render these messages, or writes earlier turns anew when later ones come.
    """
    ids: list[int] = []
    weights: list[float] = []
    special = _Special(tokenizer)
    messages = special.guarded(messages)
    with _work(messages):
        cut = _pieces(messages, template, special)
    for piece, answer in cut:
        new = special.encode([piece])
        ids += new
        weights += [1.0 if answer else 0.0] * len(new)
    return ids, weights


def stop_ids(tokenizer: TextTokenizer, template: str | None) -> tuple[int, ...]:
    """The ids that end an answer: the end token and, where the template closes answers with another special token
    (``<|im_end|>``), that one, since a model that was tuned with it writes no other."""
    if template is None:
        return (tokenizer.end_id,)
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        ids, weights = encode_chat(talk, tokenizer, template)
    except UserError:  # it has its say where a conversation is written
        return (tokenizer.end_id,)
    learnt = [token for token, weight in zip(ids, weights, strict=True) if weight]
    special: set[int] = set(getattr(tokenizer, "special_ids", dict)().values())
    return tuple(dict.fromkeys((tokenizer.end_id, *(token for token in learnt[-1:] if token in special))))


def render(messages: Messages, template: str, *, add_generation_prompt: bool = False) -> str:
    """The conversation as text, :data:`BEGIN` where the template writes ``bos_token`` and :data:`MARK` where it writes
    ``eos_token``."""
    for mark in (MARK, BEGIN):
        _refuse(messages, mark)
    _refuse_halves(messages)
    from lmgraft.bounded import TooMuchWork

    compiled = _compiled(source(template))
    plain = [{**message, "content": message.get("content") or ""} for message in messages]
    try:
        with _work(messages):
            text: str = compiled.render(
                messages=plain, add_generation_prompt=add_generation_prompt, bos_token=BEGIN, eos_token=MARK, tools=None
            )
        text.encode()  # half of a pair of surrogates is no text
        return text
    except TooMuchWork as error:
        shown = template if len(template) <= 60 else f"{template[:60]} ..."
        fact = "the chat template cannot write this conversation"
        raise UserError(Problem(fact, f"{error}: {shown}", "choose another: template=solar")) from error
    except Exception as error:  # a template is its author's program, and may end in whatever programs end in
        cause = f"{type(error).__name__}: {error}"
        raise UserError(
            Problem("the chat template cannot write this conversation", cause, "choose another: template=solar")
        ) from error


def _refuse(messages: Messages, character: str) -> None:
    """:raises UserError: ``character``, which marks tokens here, stands in a message."""
    for number, message in enumerate(messages, 1):
        if any(character in text for text in _texts(message)):
            name = f"U+{ord(character):04X}"
            cause = f"the character {name} is no text: Unicode leaves it unassigned, and tokens are marked by it here"
            raise UserError(Problem(f"message {number} holds {name}", cause, "take the character out"))


def _refuse_halves(messages: Messages) -> None:
    """:raises UserError: a message has half of a pair of surrogates, as bytes that are no UTF-8 become."""
    for number, message in enumerate(messages, 1):
        for text in _texts(message):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                cause = f"U+{ord(text[error.start]):04X} is half a character, as bytes that are no UTF-8 are read"
                problem = Problem(f"message {number} is no text", cause, "give it in UTF-8, or take the character out")
                raise UserError(problem) from error


def _texts(value: Any) -> Iterator[str]:
    """Every text in a message, keys too: a template may write any of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


@dataclass(frozen=True, slots=True)
class _Names:
    """How special tokens are found, by their names."""

    written: re.Pattern[str]
    """In what a template gives."""
    last: re.Pattern[str]
    """All up to the one that ends an answer."""
    spelt: re.Pattern[str]
    """The first character of each in a message: overlapping ones too, and in whatever case, for filters change it."""
    begun: frozenset[str]
    """Beginnings of names, in lower case: at the end of a text, of which the template may put another behind."""
    longest: int


@lru_cache(maxsize=8)
def _names(names: tuple[str, ...]) -> _Names:
    longest_first = sorted(names, key=len, reverse=True)
    # A guard has no place within a name of one character and stands behind it.
    written = "|".join(re.escape(name) + (f"(?!{GUARD})" if len(name) == 1 else "") for name in longest_first)
    rest: dict[str, list[str]] = {}
    for name in longest_first:
        rest.setdefault(name[0], []).append(re.escape(name[1:]))
    spelt = "|".join(f"{re.escape(first)}(?={'|'.join(others)})" for first, others in rest.items())
    nothing = r"(?!)"
    return _Names(
        re.compile(written or nothing),
        re.compile(rf"(?s).*(?:{MARK}{'|' + written if written else ''})(?=\s*\Z)"),
        re.compile(spelt or nothing, re.IGNORECASE),
        frozenset(name[:end].lower() for name in names if not name[0].isalnum() for end in range(1, len(name))),
        max(map(len, names), default=0),
    )


class _Special:
    """The special tokens of a tokenizer, as templates write them by their names."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = {text: index for text, index in getattr(tokenizer, "special_ids", dict)().items() if text}
        self._names = _names(tuple(self._ids))

    def guarded(self, messages: Messages) -> Messages:
        """The messages with a guard in each special token that they spell, so that only the template writes any."""
        _refuse(messages, GUARD)
        guarded: Messages = self._guarded(messages)
        return guarded

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return _guard(value, {*self._spelt(value), *self._begun(value)})
        if isinstance(value, Mapping):
            return {
                self._key(key): inner if key in NAMES and isinstance(inner, str) and inner.isidentifier()
                else self._guarded(inner)
                for key, inner in value.items()
            }  # fmt: skip
        return [self._guarded(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _key(self, key: Any) -> Any:
        return _guard(key, set(self._spelt(key))) if isinstance(key, str) else key

    def _spelt(self, text: str) -> Iterator[int]:
        return (found.start() for found in self._names.spelt.finditer(text))

    def _begun(self, text: str) -> Iterator[int]:
        text = text.rstrip()  # as templates do
        starts = range(max(0, len(text) - self._names.longest + 1), len(text))
        return (start for start in starts if text[start:].lower() in self._names.begun)

    def closed(self, answer: str) -> str:
        """``answer`` up to the token that closes it: white space behind that belongs to the next turn."""
        found = self._names.last.match(answer)
        return answer if found is None else found[0]

    def encode(self, texts: Sequence[str]) -> list[int]:
        end = self._tokenizer.end_id
        marks = {MARK: end, BEGIN: getattr(self._tokenizer, "begin_id", end)}
        ids: list[int] = []
        for text in texts:
            for part in re.split(f"([{MARK}{BEGIN}])", text):
                ids += [marks[part]] if part in marks else self._part(part)
        return ids

    def _part(self, text: str) -> Iterator[int]:
        start = 0
        for found in self._names.written.finditer(text):
            yield from self._plain(text[start : found.start()])
            yield self._ids[found[0]]
            start = found.end()
        yield from self._plain(text[start:])

    def _plain(self, text: str) -> Sequence[int]:
        return self._tokenizer.encode_batch([text.replace(GUARD, "")])[0] if text else ()


def _guard(text: str, places: set[int]) -> str:
    """``text`` with a guard behind the characters at these places."""
    edges = [0, *(place + 1 for place in sorted(places)), len(text)]
    return GUARD.join(text[start:end] for start, end in pairwise(edges)) if places else text


def _pieces(messages: Messages, template: str, special: _Special) -> list[tuple[str, bool]]:
    """The whole conversation in order, cut at the borders of answers: (text, is it an answer)."""
    found: list[tuple[str, bool]] = []
    done = ""
    for end in _answers(messages):
        before = render(messages[:end], template, add_generation_prompt=True)
        after = render(messages[: end + 1], template)
        if not before.startswith(done) or not after.startswith(before):
            cause = f"what it writes for {end + 1} messages does not begin with what it writes before the answer"
            remedy = "choose a template that adds each turn at the end: template=solar"
            raise UserError(Problem("the chat template rewrites earlier turns", cause, remedy))
        answer = special.closed(after[len(before) :])
        found += [(before[len(done) :], False), (answer, True)]
        done = before + answer
    rest = render(messages, template)
    if rest.startswith(done) and len(rest) > len(done):
        found.append((rest[len(done) :], False))
    return found


def _answers(messages: Messages) -> Iterator[int]:
    return (index for index, message in enumerate(messages) if message.get("role") == "assistant")


def _compiled(text: str) -> Any:
    from lmgraft import bounded

    try:
        return bounded.compiled(text)
    except Exception as error:  # Jinja's own, and what Python says of the program that it makes
        raise UserError(
            Problem("the chat template is no Jinja source", str(error), "choose another: template=solar")
        ) from error


def _work(messages: Messages) -> AbstractContextManager[None]:
    """What templates may do within: as much as a conversation of this length asks for."""
    from lmgraft import bounded

    return bounded.work(messages, sum(len(text) for message in messages for text in _texts(message)))
