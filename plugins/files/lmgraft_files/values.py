"""What values of a row may be, and how one that is not is told."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["RowError", "is_plain", "named", "string"]


class RowError(Exception):
    """A row that is no document; whoever knows the file and the line makes a UserError of it."""

    def __init__(self, what: str, cause: str, remedy: str) -> None:
        super().__init__(what, cause, remedy)
        self.what, self.cause, self.remedy = what, cause, remedy


def string(value: Any, what: str) -> str:
    """``value`` if it is a text that UTF-8 can hold. Raises RowError."""
    if not isinstance(value, str):
        raise RowError(f"{what} is no text", f"it is {named(value)}", "take the row out, or write a text there")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            cause = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot hold"
            raise RowError(f"{what} is no valid Unicode", cause, "take the escape such as \\ud83d out") from None
    return value


def is_plain(key: str, value: Any) -> bool:
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
