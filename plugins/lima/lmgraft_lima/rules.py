"""The rules that judge one chat by itself (Zhou et al. 2023, arXiv:2305.11206, section 2.1).

The paper takes answers of at least 1,200 and at most 4,096 characters, of a score of at least 10, that are not written
in the first person ("I", "my") and do not refer to other answers ("as mentioned", "stack exchange", ...). It *strips*
links, images and HTML from answers and keeps code blocks and lists; here a chat that holds them is dropped, since a
filter does not rewrite messages. The paper does not print its word lists: those below are ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraft_lima.plugin import LimaConfig

__all__ = ["broken_rule", "rating"]

#: Reasons, in the order in which rules are asked; the first that is broken is the reason.
FENCE = "```"
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|^[ \t]{0,3}>.*$", re.MULTILINE)

FIRST_PERSON = re.compile(
    r"(?<![\w/.&-])I(?: ?['’](?:m|ve|d|ll)\b|(?=,?\s+[a-z]))|\b(?:[Mm]y|[Mm]ine|[Mm]yself)\b", re.ASCII
)
#: What comes before an I that is a number: World War I was, Elizabeth I of, Type I errors.
NUMERAL = re.compile(r"\b(?:War|Type|Part|Episode|Phase|Act|Class|Chapter|Volume|Title|Elizabeth|Charles|James)\s+\Z")

CROSS_REFERENCE = re.compile(
    r"\bas (?:\w+ )?mentioned\b"
    r"|\bas (?:\w+ )?(?:noted|stated|said|pointed out|suggested|described|explained|discussed)"
    r" (?:above|below|before|by|earlier|previously|in (?:\w+ ){1,2}(?:answer|comment|post|response|thread)s?)\b"
    r"|\bstack ?(?:exchange|overflow)\b|\bwikihow\b"
    r"|\b(?:other|another|previous|the accepted|above|earlier) (?:answer|response|comment|post|thread)s?\b"
    r"|\b(?:answer|comment|post)s? (?:above|below)\b|\b(?:see|read) the comments?\b|\b(?:down|up)vote",
    re.IGNORECASE,
)
MARKUP = re.compile(
    r"</?(?:a|abbr|b|blockquote|br|center|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|iframe|img|li|ol|p|pre|s|script|small"
    r"|span|strong|style|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul)(?:\s[^<>]*)?/?>"
    r"|!?\[[^\]\n]*\]\((?:https?:|/|\.)[^)\n]*\)|https?://|\bwww\.\w",
    re.IGNORECASE,
)


def broken_rule(messages: Sequence[Mapping[str, Any]] | None, score: Any, config: LimaConfig) -> str:
    """The reason why a chat is no candidate, or "".

    ``no_answer``, ``too_short``, ``too_long``, ``first_person``, ``cross_reference``, ``answer_format``, ``low_score``.
    The answers of a chat of several turns are judged together.
    """
    answer = "\n".join(str(m.get("content") or "") for m in messages or () if m.get("role") == "assistant").strip()
    if not answer:
        return "no_answer"
    if config.min_chars is not None and len(answer) < config.min_chars:
        return "too_short"
    if config.max_chars is not None and len(answer) > config.max_chars:
        return "too_long"
    plain = CODE.sub(" ", answer)
    if config.first_person and _first_person(QUOTED.sub(" ", plain)):
        return "first_person"
    if config.cross_references and CROSS_REFERENCE.search(plain):
        return "cross_reference"
    if config.answer_format and (answer.count(FENCE) % 2 or MARKUP.search(plain)):
        return "answer_format"
    rated = rating(score)
    return "low_score" if rated is not None and config.min_score is not None and rated < config.min_score else ""


def rating(value: Any) -> float | None:
    """A row's score as a number; None where it is none (missing, a text, a truth value, or not a number)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else number


def _first_person(text: str) -> bool:
    return any(not NUMERAL.search(text, 0, match.start()) for match in FIRST_PERSON.finditer(text))
