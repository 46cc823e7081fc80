"""What values of a row may be, and how one that is not is told."""

from __future__ import annotations

import math
from typing import Any

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged, Unreadable

__all__ = ["RowError", "is_plain", "named", "string"]


class RowError(Exception):
    """A row that is no document; whoever knows the file and the line makes :class:`Damaged` of it."""

    def __init__(self, what: str, cause: str, remedy: str, reason: str = "bad_row") -> None:
        super().__init__(what, cause, remedy)
        self.what, self.cause, self.remedy, self.reason = what, cause, remedy, reason

    def problem(self, where: str) -> Problem:
        """The three lines; ``where`` names the source, the file and the line."""
        return Problem(f"{where}: {self.what}", self.cause, self.remedy)

    def damaged(self, where: str, size: int = 0) -> Damaged:
        """What stands in the document's place."""
        return Damaged(self.reason, self.problem(where), size)

    def unreadable(self, where: str) -> Unreadable:
        """For a whole table: its columns are not those that are needed."""
        return Unreadable(self.reason, self.problem(where))


def string(value: Any, what: str) -> str:
    """``value`` if it is a text that UTF-8 can hold. Raises RowError."""
    if not isinstance(value, str):
        cause, remedy = f"it is {named(value)}", "take the row out, or write a text there"
        raise RowError(f"{what} is no text", cause, remedy, "wrong_type")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            cause = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot hold"
            remedy = "take the escape such as \\ud83d out"
            raise RowError(f"{what} is no valid Unicode", cause, remedy, "bad_unicode") from None
    return value


def is_plain(key: str, value: Any) -> bool:
    """Whether a value of a further key can be metadata: text, a number or a boolean. Raises RowError."""
    if isinstance(value, str):
        string(value, repr(key))
        return True
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def named(value: Any) -> str:
    """A value as JSON's users call it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    if value == []:
        return "an empty list"
    return "null" if value is None else names.get(type(value), type(value).__name__)
