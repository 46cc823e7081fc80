"""Ids as they come, told as text as it comes: for ``generate``, ``chat`` and ``serve`` alike.

A token is no piece of text: it may hold half a character, its leading space may depend on what stands before it
(SentencePiece, WordPiece), and a stop string may lie across several tokens. So

- :class:`Detokenizer` decodes a window: the tokens of the last piece told, which nothing changes any more, and those
  after it. What is new is what the window's text has beyond the piece that was told. The work per token does not grow
  with the text. (As text-generation-inference and vLLM do it; the window here is bounded for ids that never make a
  whole character, too.)
- :class:`StopStrings` holds back an end of the text that may be the beginning of a stop string.
- :class:`TextStream` puts them together and says why a text ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["Detokenizer", "Ending", "Reason", "StopStrings", "TextStream"]

#: What bytes decode to that are no character, or none yet.
UNKNOWN = "\ufffd"
#: Tokens that may hold a character under way: it is four bytes at most, and a token at least one.
UNDER_WAY = 3
#: Tokens of a window that has no whole character at its end; then it is cut to half.
WIDEST = 32

Reason = Literal["stop", "length"]
"""Why a text ended: by a stop id or string, or because it was long enough."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a text."""

    ids: tuple[int, ...] = ()
    """Tokens that end it; they are no part of it."""
    strings: tuple[str, ...] = ()
    """Texts that end it; it is cut where the first of them begins."""


class Detokenizer:
    """Ids to text, piece by piece. The pieces joined are ``tokenizer.decode`` of all ids at once.

    One exception: SentencePiece's byte tokens. Where a run of them holds a byte that belongs to no character, the
    library turns the *whole* run into U+FFFD, characters that came before it too; those are told by then.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._settled = 0
        """So many first tokens of the window are the piece told before: context only."""
        self._told = 0
        """So many first characters of the window's text were told."""

    def feed(self, token: int) -> str:
        """The text that this token completes; empty where a character is under way."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        whole = text.rstrip(UNKNOWN)
        if len(whole) == len(text):
            return self._settle(text)
        if len(self._window) - self._settled <= UNDER_WAY:
            return ""
        # Some of it is no character at all; its last bytes may still become one.
        end = max(self._told, len(whole), len(text) - UNDER_WAY)
        piece, self._told = text[self._told : end], end
        if len(self._window) > WIDEST:
            self._cut(text)
        return piece

    def finish(self) -> str:
        """What was held back: bytes of a character that never came whole."""
        text = self._tokenizer.decode(self._window)
        piece, self._told = text[self._told :], max(self._told, len(text))
        return piece

    def _settle(self, text: str) -> str:
        piece = text[self._told :]
        if piece:
            del self._window[: self._settled]
            self._settled = len(self._window)
            self._told = len(self._tokenizer.decode(self._window))
        elif len(self._window) > WIDEST:
            self._window.pop()  # ids without text, such as rows that pad a vocabulary
        return piece

    def _cut(self, text: str) -> None:
        """Forgets the first half of a window that will not come whole, where its end says the same without."""
        window = self._window[-WIDEST // 2 :]
        short, rest = self._tokenizer.decode(window), len(text) - self._told
        same = len(short) > rest and short[-rest - 1 :] == text[-rest - 1 :]
        if same or len(self._window) > 8 * WIDEST:
            self._window, self._told = window, max(0, len(short) - rest)
            self._settled = max(0, len(window) - UNDER_WAY - 1)


class StopStrings:
    """Text to text without what follows a stop string, and without the string.

    The string that is complete first ends the text (of several, the one that began first), and it is cut where that
    string begins: the same place however the text is cut into pieces.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise ValueError("an empty text cannot end one")
        self._strings = tuple(dict.fromkeys(strings))
        self._longest = max(map(len, self._strings), default=0)
        self._held = ""
        self.found = False
        """Has a stop string come."""

    def feed(self, piece: str) -> str:
        """What may be told of all that came; nothing after :attr:`found`."""
        if self.found:
            return ""
        text = self._held + piece
        places = [(at + len(string), at) for string in self._strings if (at := text.find(string)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)[1]]
        kept = self._beginning(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of ``text`` that a stop string begins with."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            end = text[len(text) - length :]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0


class TextStream:
    """One text under way: ids in, text out, until a stop id or string or the end of the ids."""

    def __init__(self, tokenizer: TextTokenizer, ending: Ending) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(ending.strings)
        self._ids = frozenset(ending.ids)
        self.tokens = 0
        """Ids that came, the stop id and those of a stop string included."""
        self.reason: Reason | None = None
        """Why it ended; None while it goes on."""

    def feed(self, token: int, *, last: bool = False) -> str:
        """What may be told now. With ``last`` (no more ids come), or once :attr:`reason` says so, that is all of it."""
        if self.reason is not None:
            return ""
        self.tokens += 1
        if token in self._ids:
            return self.finish("stop")
        text = self._stops.feed(self._detokenizer.feed(token))
        if self._stops.found:
            self.reason = "stop"
        elif last:
            text += self.finish("length")
        return text

    def finish(self, reason: Reason = "length") -> str:
        """Ends the text from outside: what was held back. Does nothing where it has ended."""
        if self.reason is not None:
            return ""
        text = self._stops.feed(self._detokenizer.finish())
        self.reason = "stop" if self._stops.found else reason
        return text + self._stops.finish()
