"""What parts that learn a vocabulary share: text that can be learnt from, special tokens, the config file they save.

**Words without an end.** A trainer holds every distinct word in memory, some forty bytes a character. A run of letters,
of marks or of white space that is longer than :data:`CUT` characters is therefore learnt from in parts, which costs one
border each; one longer than :data:`LONGEST` is no text (an image in base64 without its line ends, a core dump) and is
refused, because a vocabulary learnt from it would hold scraps of it.

**Special tokens** look like ``<|name|>`` or ``[NAME]``: letters between marks. Every splitter here parts letters from
marks, so no piece that is learnt can spell one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["CUT", "LONGEST", "check_chat_template", "check_special_tokens", "learnable", "tokenizer_config"]

CUT = 4096
"""Characters of one kind in a row, without a break, that a trainer sees at most."""
LONGEST = 1 << 20
"""Characters of one kind in a row that are still taken for text."""

_KINDS = (r"\w", r"\s", r"[^\w\s]")
# A run is looked at from its beginning only, so that the search stays linear.
_LONG_RUN = re.compile("|".join(f"(?<!{kind}){kind}{{{CUT + 1}}}" for kind in _KINDS))
_RUN = re.compile("|".join(f"{kind}+" for kind in _KINDS))
_SPECIAL = re.compile(r"<[^\s<>]*[A-Za-z0-9][^\s<>]*>|\[[^\s\[\]]*[A-Za-z0-9][^\s\[\]]*\]")


def learnable(texts: Iterable[str], part: str) -> Iterator[str]:
    """``texts``, with runs of more than :data:`CUT` characters of one kind cut; empty ones are left out.

    Raises :class:`~lmgraft.errors.UserError`, naming the tokenizer ``part``, for a run of more than :data:`LONGEST`,
    for half a character (a lone surrogate), and where there is no text at all.
    """
    seen = False
    for number, text in enumerate(texts, 1):
        if text:
            _check_characters(text, number, part)
            seen = True
            yield from _cut(text, number, part) if len(text) > CUT else (text,)
    if not seen:
        cause = "a vocabulary is learnt from text, and the sample holds none"
        raise UserError(Problem(f"tokenizer {part}: there is no text to learn from", cause, "give the corpus text"))


def _check_characters(text: str, number: int, part: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        fact = f"tokenizer {part}: text {number} of the sample holds U+{ord(text[error.start]):04X}, half a character"
        cause = f"character {error.start} is a lone surrogate, which is no text and has no UTF-8"
        raise UserError(Problem(fact, cause, 'repair the source: text.encode("utf-8", "replace").decode()')) from error


def _cut(text: str, number: int, part: str) -> Iterator[str]:
    start = 0
    for begin, end in _long_runs(text):
        if end - begin > LONGEST:
            raise UserError(_endless(end - begin, number, part))
        for border in range(begin + CUT, end, CUT):
            yield text[start:border]
            start = border
    yield text[start:]


def _long_runs(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while (found := _LONG_RUN.search(text, at)) is not None:
        run = _RUN.match(text, found.start())
        assert run is not None
        at = run.end()
        yield run.start(), at


def _endless(length: int, number: int, part: str) -> Problem:
    return Problem(
        f"tokenizer {part}: text {number} of the sample holds a word of {length:,} characters",
        f"nothing longer than {LONGEST:,} without a break is text, and its scraps would fill the vocabulary",
        "leave the document out, by a filter of the corpus stage (gopher_quality, c4) or from its source",
    )


def check_special_tokens(named: Mapping[str, str], more: Sequence[str] = ()) -> Iterator[str]:
    """What is wrong with special tokens, as ``check()`` of a config yields it: setting -> token, and the list
    ``special_tokens``."""
    given = [*named.items(), *(("special_tokens", token) for token in more)]
    for name, token in given:
        if not _SPECIAL.fullmatch(token):
            shape = "<|name|> or [NAME]"
            yield f"{name} holds {token!r}; it must look like {shape}, so that no ordinary text is encoded as it"
    seen: dict[str, str] = {}
    for name, token in given:
        if token in seen:
            names = " and ".join(dict.fromkeys((seen[token], name)))
            end = {"end_token", "pad_token"} <= {seen[token], name}
            why = "a model could never learn to end" if end else "each token has an id of its own"
            yield f"{names} {'both hold' if seen[token] != name else 'holds twice'} {token!r}; {why}"
        seen.setdefault(token, name)


def check_chat_template(template: str | None) -> Iterator[str]:
    """What is wrong with the setting ``chat_template``: a name of :data:`lmgraft.chat.TEMPLATES`, or Jinja source."""
    if template is None:
        return
    from lmgraft.chat import source

    try:
        source(template)
    except UserError as error:
        problem = error.problems[0]
        yield f"chat_template: {problem.fact}; {problem.cause}"


def tokenizer_config(end: str, pad: str, *, more: Mapping[str, str], chat_template: str | None) -> dict[str, Any]:
    """The object of ``tokenizer_config.json``, as transformers reads it.

    ``more`` names further special tokens by their key (``unk_token``). Documents begin after an end token, so the begin
    token is that one too: a begin token of its own would be met untrained.
    """
    from lmgraft.chat import source

    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end, "pad_token": pad}
    config |= more
    template = {} if chat_template is None else {"chat_template": source(chat_template)}
    # transformers would mend spaces before punctuation in what it decodes.
    return {**config, "clean_up_tokenization_spaces": False, **template}
